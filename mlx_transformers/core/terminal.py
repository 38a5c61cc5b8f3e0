"""Tests whether output goes to a terminal."""

import os
import sys
from typing import TextIO


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether `stream`, standard output by default, is a terminal that can rewrite its lines."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
