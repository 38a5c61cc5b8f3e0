"""Whole models: their wiring against NumPy, decoding, recomputation."""
