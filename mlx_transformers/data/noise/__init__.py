"""Masking and noise, as pure functions of tokens and a random generator."""
