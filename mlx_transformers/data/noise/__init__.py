"""Masking and noise: pure functions of tokens and a random generator."""
