"""What is claimed about speed, measured: ratios within one run, never times on their own."""
