"""Checkpoints on disk: complete or absent, verified when read.

    checkpoints/step-000060/{model,optimizer[,ema]}.safetensors, state.json, MANIFEST
    checkpoints/last, best      small text files that hold the name of a checkpoint

One process writes to a folder of checkpoints; any number may read. A process that is killed at
any moment leaves either the new checkpoint or none of it, and never touches earlier ones.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx

from ..core.errors import CheckpointError
from ..core.parse import read_table
from ..core.sync import sync
from .durable import partial_of, replace_text
from .manifest import MANIFEST, check_files, check_sizes, read_manifest, write_manifest
from .tensors import HashingFile, Tree, named_leaves, read_tree, write_tree

STATE = "state.json"
SUFFIX = ".safetensors"
SAVING, REPLACED, REMOVING = ".saving-", ".replaced-", ".removing-"
"""Prefixes of folders that are being written, replaced or removed; a killed run may leave one."""

Pointer = Literal["last", "best"]


def save(
    folder: Path, step: int, trees: dict[str, Tree], state: dict[str, Any], *, best: bool = False
) -> Path:
    """Write the checkpoint of `step` and point `last` at it (and `best`, if asked).

    A checkpoint of the same step is replaced: resuming an earlier one walks the same steps.

    Args:
        folder: the run's `checkpoints`; made if it isn't there.
        step: the number of updates done.
        trees: nested dicts and lists of arrays, by file stem: `model`, `optimizer`, `ema`.
        state: what JSON can hold: data position, best loss and the like.
        best: whether this is the best checkpoint so far.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: the disk is full or can't be written. Nothing is left of the new
            checkpoint; the earlier ones are as they were, and the run may go on.
    """
    mx.eval(trees)
    text = json.dumps(state, indent=2)
    name = f"step-{step:06d}"
    partial = folder / f"{SAVING}{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder)
        partial.mkdir()
        _write(partial, trees, text, step=step, order=_next_order(folder))
        _put(partial, folder / name)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _not_saved(folder, step, trees, error) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    mark(folder, "last", folder / name)
    if best:
        mark(folder, "best", folder / name)
    return folder / name


def load(
    path: Path, only: Collection[str] | None = None, stored: Collection[str] = ()
) -> tuple[dict[str, Tree], dict[str, Any]]:
    """The trees and the state of a checkpoint, verified and evaluated.

    Args:
        path: a checkpoint's folder, or a pointer file (`checkpoints/best`).
        only: the trees wanted, by file stem (default: all); others are not read.
        stored: the trees whose arrays stay in the file, as `Stored`.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged; the message names the
            damaged files and the newest intact checkpoint.
    """
    path = _resolve(Path(path))
    try:
        files = check_sizes(path)["files"]
        stems = [name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)]
        chosen = stems if only is None else [stem for stem in stems if stem in only]
        check_files(path, [*(stem + SUFFIX for stem in chosen), STATE])
    except CheckpointError as error:
        raise CheckpointError(f"{error} {_alternative(path)}") from None
    for stem in only or ():
        if stem not in stems:
            raise CheckpointError(f"{path} has no {stem}{SUFFIX}. It has: {', '.join(stems)}.")
    trees = {stem: read_tree(path / f"{stem}{SUFFIX}", stem in stored) for stem in chosen}
    return trees, read_table(path / STATE)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, damaged ones too, in the order in which they were saved.

    This differs from the order of their steps where a run was resumed from an earlier one. A
    checkpoint whose MANIFEST can't be read is placed by its step.
    """
    ordered, unread = [], []
    for path in sorted(folder.glob("step-*")) if folder.is_dir() else []:
        try:
            ordered.append((float(read_manifest(path)["order"]), path))
        except CheckpointError:
            unread.append(path)
    for path in unread:
        before = [order for order, other in ordered if other.name < path.name]
        ordered.append((max(before, default=0.0) + 0.5, path))
    return [path for _, path in sorted(ordered)]


def step_of(path: Path) -> int:
    """Return the steps that a checkpoint was trained for, by its name; 0 for another name."""
    match = re.fullmatch(r"step-(\d+)", path.name)
    return int(match[1]) if match else 0


def newest(folder: Path) -> Path | None:
    """The checkpoint that was saved last, or None; `load` verifies it."""
    saved = checkpoints(folder)
    return saved[-1] if saved else None


def best(folder: Path) -> Path | None:
    """The checkpoint that `best` points at, or None."""
    return pointed(folder, "best")


def _best_known_to(checkpoint: Path) -> Path | None:
    """The checkpoint of the best evaluation, as the state of another one names it."""
    try:
        state = read_table(checkpoint / STATE)
        step = state["best_step"] if state["best_loss"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    path = checkpoint.parent / f"step-{step:06d}" if isinstance(step, int) else None
    return path if path is not None and path.is_dir() else None


def mark(folder: Path, pointer: Pointer, path: Path) -> None:
    """Point `last` or `best` at a checkpoint of this folder, atomically.

    Raises:
        CheckpointError: the pointer can't be written; it is as it was.
    """
    try:
        replace_text(folder / pointer, path.name + "\n")
    except OSError as error:
        raise CheckpointError(
            f"{path} is saved, but {folder / pointer} can't be pointed at it: "
            f"{error.strerror or error}."
        ) from error


def prune(folder: Path, keep: int) -> list[Path]:
    """Remove all but the `keep` newest checkpoints; never those that `last` or `best` point at.

    Damaged ones are neither counted nor removed, so that the user sees them.

    Returns:
        The removed checkpoints.
    """
    if keep < 1:
        raise ValueError(f"At least one checkpoint is kept, not {keep}.")
    intact = [path for path in checkpoints(folder) if is_intact(path)]
    protected = {*intact[-keep:], pointed(folder, "last"), best(folder)}
    removed = [path for path in intact if path not in protected]
    for path in removed:
        # Out of sight in one step: a kill half way must not leave half a checkpoint.
        aside = folder / f"{REMOVING}{path.name}"
        os.rename(path, aside)
        shutil.rmtree(aside)
    return removed


def is_intact(path: Path) -> bool:
    """Whether all files exist with their recorded sizes; `load` also compares their contents."""
    try:
        check_sizes(path)
    except CheckpointError:
        return False
    return True


def recover(folder: Path) -> None:
    """Undo what a killed run left half done: partial folders, and pointers it had yet to move.

    Called before a run resumes. A kill between the rename of a checkpoint and its pointers leaves
    `last` and `best` at an earlier one.

    Raises:
        CheckpointError: a pointer can't be written.
    """
    clear_leftovers(folder)
    last = newest(folder)
    if last is None:
        return
    if pointed(folder, "last") != last:
        mark(folder, "last", last)
    best_known, current = _best_known_to(last), best(folder)
    if best_known is not None and best_known != current and (best_known == last or current is None):
        mark(folder, "best", best_known)


def clear_leftovers(folder: Path) -> None:
    """Remove partial folders of killed runs. A checkpoint that was being replaced comes back."""
    for pointer in ("last", "best"):
        partial_of(folder / pointer).unlink(missing_ok=True)
    for path in folder.glob(f"{REPLACED}*"):
        final = folder / path.name.removeprefix(REPLACED)
        if not final.exists():
            os.rename(path, final)
    for prefix in (SAVING, REPLACED, REMOVING):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path)


def _write(partial: Path, trees: dict[str, Tree], state: str, **facts: object) -> None:
    """Write and sync all files of a checkpoint into a folder of its own."""
    files: dict[str, HashingFile] = {}
    for stem, tree in trees.items():
        with HashingFile(partial / f"{stem}{SUFFIX}") as file:
            write_tree(file, tree)
            file.flush_to_disk()
        files[f"{stem}{SUFFIX}"] = file
    with HashingFile(partial / STATE) as file:
        file.write(state.encode())
        file.flush_to_disk()
    files[STATE] = file
    write_manifest(partial, files, **facts)


def _put(partial: Path, final: Path) -> None:
    """Rename a complete folder to its final name, replacing an older one of that name."""
    aside = final.with_name(f"{REPLACED}{final.name}")
    if final.exists():
        os.rename(final, aside)
    os.rename(partial, final)
    sync(final.parent)
    if aside.exists():
        shutil.rmtree(aside)


def _next_order(folder: Path) -> int:
    orders = [0]
    for path in checkpoints(folder):
        # Damaged ones count too: otherwise the next checkpoint would tie with one for newest.
        with suppress(CheckpointError):
            orders.append(read_manifest(path)["order"])
    return max(orders) + 1


def pointed(folder: Path, pointer: Pointer) -> Path | None:
    """The checkpoint that a pointer names, or None where it names none."""
    try:
        path = folder / (folder / pointer).read_text(encoding="utf-8").strip()
        return path if path.is_dir() and path != folder else None
    except (OSError, UnicodeDecodeError):  # a name that is too long, among others
        return None


def _resolve(path: Path) -> Path:
    """The folder that a path names, directly or through a pointer file."""
    if path.name in ("last", "best") and path.is_file():
        target = pointed(path.parent, "last" if path.name == "last" else "best")
        if target is None:
            raise CheckpointError(f"{path} points at no checkpoint. {_alternative(path)}")
        return target
    if path.is_dir() and (path.name.startswith("step-") or (path / MANIFEST).exists()):
        return path
    raise CheckpointError(f"There is no checkpoint at {path}. {_alternative(path)}")


def _alternative(path: Path) -> str:
    """A sentence that names the newest intact checkpoint beside the one at `path`."""
    for checkpoint in reversed(checkpoints(path.parent)):
        if checkpoint == path:
            continue
        try:
            check_files(checkpoint)
        except CheckpointError:
            continue
        return f"The newest intact one is {checkpoint}: name that one instead."
    return f"There is no intact one beside it in {path.parent}."


def _not_saved(folder: Path, step: int, trees: dict[str, Tree], error: OSError) -> CheckpointError:
    needed = sum(leaf.nbytes for _, leaf in named_leaves(trees))
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free"
    except OSError:
        free = "its disk can't be asked for free space"
    earlier = [path.name for path in checkpoints(folder) if is_intact(path)]
    intact = f"Intact: {', '.join(earlier)}" if earlier else "There is no earlier one"
    cure = "Free some space, or keep fewer with checkpoint.keep."
    if error.errno == errno.EFBIG:
        cure = "A limit on the size of files is in force: `ulimit -f` shows it, raise it."
    return CheckpointError(
        f"The checkpoint of step {step} could not be saved in {folder}: {error.strerror or error}. "
        f"It takes {needed / 1e6:,.1f} MB; {free}. {intact}; nothing of the failed one is left. "
        f"{cure}"
    )
