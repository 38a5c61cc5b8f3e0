"""Versions of installed distributions."""

import functools
from importlib import metadata


@functools.cache
def version(distribution: str) -> str:
    """Return the version of an installed distribution, parsing its metadata once.

    Raises:
        importlib.metadata.PackageNotFoundError: it isn't installed.
    """
    return metadata.version(distribution)
