"""The curvature of a network: products, class means and Gram matrices."""
