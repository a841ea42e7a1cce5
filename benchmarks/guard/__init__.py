"""What DivergenceGuard adds to a step of `fit`: python -m benchmarks.guard."""
