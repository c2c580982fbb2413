"""The problem: a network, its loss and its data, proven to repeat."""
