"""What the benchmarks share: timing, tables, and what a result says of its machine."""
