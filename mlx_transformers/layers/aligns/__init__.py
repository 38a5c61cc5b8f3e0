"""Alignments of recurrent decoders: what the slot `align` can hold, one file per kind."""
