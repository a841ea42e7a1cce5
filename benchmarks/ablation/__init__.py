"""Which settings of the directions are the best over all of the race's workloads."""
