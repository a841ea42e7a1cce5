"""How optimizers fare as they come, without any tuning, on many small tasks."""
