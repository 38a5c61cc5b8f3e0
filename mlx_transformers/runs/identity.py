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
    id_file, resolved = folder / f"{tracker}.json", folder.resolve()
    about = resolved.stat()
    place = {"folder": os.fsencode(resolved).hex(), "inode": about.st_ino, "device": about.st_dev}
    saved = _read(id_file)
    old = folder / OLDER
    if saved is None and tracker == "wandb" and old.is_file():
        saved = {"id": old.read_text(encoding="utf-8", errors="replace").strip()}
    saved_id = (saved or {}).get("id")
    if saved is not None and isinstance(saved_id, str) and saved_id:
        origin = _origin(saved)
        if origin is None or not _copied(place, saved, origin, id_file.name):
            if saved != (now := {"id": saved_id, **place}):
                replace_text(id_file, json.dumps(now) + "\n")
            return saved_id
        warnings.warn(
            f"{shown(str(folder))} is a copy of {shown(str(origin))}, whose {tracker} run stays "
            "its own: this one begins a new one.",
            Notice,
            stacklevel=3,
        )
    new_id = secrets.token_hex(8)
    replace_text(id_file, json.dumps({"id": new_id, **place}) + "\n")
    return new_id


def _copied(place: dict[str, object], saved: dict[str, object], origin: Path, name: str) -> bool:
    """Whether the folder is another than that of the id, which lives on."""
    if saved.get("inode") == place["inode"] or saved.get("folder") == place["folder"]:
        return False
    if saved.get("device") == place["device"]:
        return True
    original = _read(origin / name)
    return original is not None and original.get("id") == saved["id"]


def _origin(saved: dict[str, object]) -> Path | None:
    """The folder in which an id was made, if the file names one."""
    try:
        return Path(os.fsdecode(bytes.fromhex(str(saved["folder"]))))
    except (KeyError, ValueError):
        return None


def _read(path: Path) -> dict[str, object] | None:
    """The content of an id's file; None if there is none that can be read."""
    try:
        return read_table(path) if path.is_file() else None
    except (OSError, ValueError, FormatError):
        return None
