"""What a displacement of 16 bits does to training: python -m benchmarks.slots."""
