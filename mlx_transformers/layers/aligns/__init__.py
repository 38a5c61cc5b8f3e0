"""Slot `align`: attention of recurrent decoders, one file per kind."""
