"""A race of NAGD and Keras' own optimizers under equal tuning: python -m benchmarks.race."""
