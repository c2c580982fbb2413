"""Progress, pausing and cancelling, and timing of long work."""
