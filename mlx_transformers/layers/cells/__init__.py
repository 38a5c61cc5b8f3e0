"""Recurrent cells: what the slot `cell` can hold, one file per kind."""
