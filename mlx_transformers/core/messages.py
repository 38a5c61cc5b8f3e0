"""Messages to the user from a function that takes a while."""

from collections.abc import Callable

LogFn = Callable[[str], None]
"""Receives each message, one sentence or more."""
