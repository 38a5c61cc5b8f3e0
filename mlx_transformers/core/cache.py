"""The folder of downloaded and prepared data and compiled kernels."""

import os
from pathlib import Path

from .errors import MlxtError
from .paths import expanded


def cache_folder() -> Path:
    """Return this user's cache: `$MLXT_CACHE`, else `mlxt` below `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        MlxtError: neither variable is set, and there is no home folder.
    """
    if folder := os.environ.get("MLXT_CACHE"):
        return expanded(folder).absolute()
    if above := os.environ.get("XDG_CACHE_HOME"):
        return expanded(above).absolute() / "mlxt"
    try:
        return Path.home() / ".cache" / "mlxt"
    except RuntimeError:
        raise MlxtError(
            "There is no home folder to keep prepared data and compiled kernels in. Set "
            "$MLXT_CACHE to a folder that you can write to."
        ) from None
