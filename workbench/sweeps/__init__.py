"""Many small runs: a grid of settings, each trained and measured, as one table."""
