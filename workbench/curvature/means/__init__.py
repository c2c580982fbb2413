"""The three averages of the gradients, and what they carry of G."""
