"""Benchmarks: every claim about speed and robustness, measured as ratios within one run."""
