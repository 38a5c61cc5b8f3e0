"""Where downloaded and prepared data and compiled kernels are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """This user's cache: `$MLXT_CACHE`, else `mlxt` below `$XDG_CACHE_HOME` or `~/.cache`."""
    if named := os.environ.get("MLXT_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlxt"
