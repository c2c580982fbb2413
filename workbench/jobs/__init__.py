"""Long-running jobs of the page, each in its own process."""
