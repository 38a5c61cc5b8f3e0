"""The MANIFEST of a folder: its files' names, sizes and SHA-256 digests.

A folder with a MANIFEST is complete: the MANIFEST is written last, and the folder is renamed to
its final name after that. It holds a digest of its own text, so damage to it is detected too.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.parse import read_table
from ..core.sync import sync, sync_handle
from .tensors import HashingFile

MANIFEST = "MANIFEST"
FORMAT = 1


def write_manifest(folder: Path, files: dict[str, HashingFile], **facts: object) -> None:
    """Write and sync the MANIFEST of closed `files` by name, with further `facts`."""
    listed = {name: {"size": f.size, "sha256": f.sha256} for name, f in sorted(files.items())}
    body = {"format": FORMAT, **facts, "files": listed}
    body["manifest_sha256"] = _digest(body)
    with open(folder / MANIFEST, "x", encoding="utf-8") as file:
        json.dump(body, file, indent=2)
        file.flush()
        sync_handle(file.fileno())
    sync(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and verify the MANIFEST of a folder.

    Raises:
        CheckpointError: it is missing, can't be read, or was changed.
    """
    path = folder / MANIFEST
    try:
        body = read_table(path)
        claimed = body.pop("manifest_sha256")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} can't be read ({error}).") from None
    if claimed != _digest(body):
        raise CheckpointError(f"{path} is damaged: its text doesn't match its own digest.")
    if body.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {body.get('format')}; this version of mlxt reads {FORMAT}."
        )
    return body


def check_sizes(folder: Path) -> dict[str, Any]:
    """Compare each file's size with the MANIFEST, which finds truncated files, and return it.

    Raises:
        CheckpointError: a file is missing or has another size; all of them are named.
    """
    body = read_manifest(folder)
    faults = []
    for name, listed in body["files"].items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif (size := path.stat().st_size) != listed["size"]:
            faults.append(f"{name} has {size:,} bytes and should have {listed['size']:,}")
    if faults:
        raise CheckpointError(f"{folder} is damaged: {'; '.join(faults)}.")
    return body


def check_files(folder: Path, names: list[str] | None = None) -> dict[str, Any]:
    """Compare the SHA-256 of the named files (default: all) with the MANIFEST, and return it.

    Raises:
        CheckpointError: a file is missing or was changed; all such files are named.
    """
    body = check_sizes(folder)
    faults = []
    for name in body["files"] if names is None else names:
        try:
            with open(folder / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            faults.append(f"{name} can't be read ({error.strerror})")
            continue
        if digest != body["files"][name]["sha256"]:
            faults.append(f"the content of {name} has changed since it was written (SHA-256)")
    if faults:
        raise CheckpointError(f"{folder} is damaged: {'; '.join(faults)}.")
    return body


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
