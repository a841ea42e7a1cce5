"""Experiments of Sutskever, Martens, Dahl & Hinton: python -m benchmarks.sutskever2013."""
