"""How long work is watched, steered, timed and told."""
