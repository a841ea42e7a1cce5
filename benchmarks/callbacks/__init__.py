"""What a callback adds to a step of `fit`: python -m benchmarks.callbacks."""
