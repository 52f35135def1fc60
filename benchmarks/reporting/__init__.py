"""The reporter: from raw figures to spreads, goals, tables and plots."""
