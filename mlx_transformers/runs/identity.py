"""The identity of a run outside of its folder, which a moved folder keeps and a copy doesn't."""

import json
import os
import secrets
import warnings
from pathlib import Path

from ..core.errors import FormatError, Notice
from ..core.parse import read_table
from ..core.paths import shown
from .durable import replace_text

OLDER = "wandb-id.txt"
"""The file of runs of earlier versions: the id alone."""


def tracker_id(folder: Path, tracker: str) -> str:
    """The id of a run at a tracker, such as "wandb": made once and kept in the run's folder, so
    that a resume continues it.

    A copy of the folder gets an id of its own, and a notice says so: two runs would write into one
    otherwise. A folder with another path and inode than that in which the id was made is a copy on
    the same device, where moving keeps the inode; on another device it is one if the first folder
    still has the id.
    """
    kept, here = folder / f"{tracker}.json", folder.resolve()
    about = here.stat()
    own = {"folder": os.fsencode(here).hex(), "inode": about.st_ino, "device": about.st_dev}
    found = _read(kept)
    old = folder / OLDER
    if found is None and tracker == "wandb" and old.is_file():
        found = {"id": old.read_text(encoding="utf-8", errors="replace").strip()}
    given = (found or {}).get("id")
    if found is not None and isinstance(given, str) and given:
        origin = _origin(found)
        if origin is None or not _copied(own, found, origin, kept.name):
            if found != (now := {"id": given, **own}):
                replace_text(kept, json.dumps(now) + "\n")
            return given
        warnings.warn(
            f"{shown(str(folder))} is a copy of {shown(str(origin))}, whose {tracker} run stays "
            "its own: this one begins a new one.",
            Notice,
            stacklevel=3,
        )
    made = secrets.token_hex(8)
    replace_text(kept, json.dumps({"id": made, **own}) + "\n")
    return made


def _copied(own: dict[str, object], found: dict[str, object], origin: Path, name: str) -> bool:
    """Whether the folder is another than that of the id, which lives on."""
    if found.get("inode") == own["inode"] or found.get("folder") == own["folder"]:
        return False
    if found.get("device") == own["device"]:
        return True
    there = _read(origin / name)
    return there is not None and there.get("id") == found["id"]


def _origin(found: dict[str, object]) -> Path | None:
    """The folder in which an id was made, if the file names one."""
    try:
        return Path(os.fsdecode(bytes.fromhex(str(found["folder"]))))
    except (KeyError, ValueError):
        return None


def _read(path: Path) -> dict[str, object] | None:
    """The content of an id's file; None if there is none that can be read."""
    try:
        return read_table(path) if path.is_file() else None
    except (OSError, ValueError, FormatError):
        return None
