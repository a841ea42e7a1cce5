"""How gradients become an update."""
