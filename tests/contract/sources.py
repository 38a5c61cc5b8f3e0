"""Rows of the slot `source`."""

from .suite import Row

ROWS = [Row("source", "stream", {"kind": "stream"})]

CHANGES: dict[str, dict[str, object]] = {"stream": {}}
