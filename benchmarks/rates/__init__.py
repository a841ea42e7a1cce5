"""What the right learning rate is worth, and a wrong one costs: python -m benchmarks.rates."""
