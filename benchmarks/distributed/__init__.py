"""What a step costs on more than one device: python -m benchmarks.distributed."""
