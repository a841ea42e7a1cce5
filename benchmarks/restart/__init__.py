"""What adaptive restart is worth: python -m benchmarks.restart."""
