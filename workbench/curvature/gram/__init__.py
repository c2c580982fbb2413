"""Inner products of all gradients, and exact results that follow from them."""
