"""Products of G, Hess and H with vectors, by the fastest way that passes checks."""
