"""Tokenizers: text to integers and back, one kind a file."""
