"""Measurements, as ratios of interleaved runs; nothing here is a test. See README.md."""
