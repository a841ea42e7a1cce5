"""What an update costs, beside its peers and its limit: python -m benchmarks.update."""
