"""How the update rule is executed fast: one module for each backend that gains from one."""
