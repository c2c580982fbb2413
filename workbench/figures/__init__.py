"""The figures of the talk and of the work it starts from, each by one command."""
