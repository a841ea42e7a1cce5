"""What DivergenceGuard makes of rates that are too high: python -m benchmarks.guard."""
