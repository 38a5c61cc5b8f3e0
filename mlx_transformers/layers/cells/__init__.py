"""Slot `cell`: recurrent cells, one file per kind."""
