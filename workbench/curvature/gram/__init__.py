"""Inner products of all the gradients, and what follows from them exactly."""
