"""Lists, removes and prunes runs: `mlxt runs`."""

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from glob import glob
from pathlib import Path

from ..core.errors import RunError
from ..core.parse import parse_toml, read_table
from ..core.paths import files_below, remove_tree
from ..runs import checkpoint
from ..runs.folder import RUNS, RunFolder, check_root, find, study_runs

TRAINING_VERBS = ("train", "finetune", "ladder", "import")
MADE = ("environment.json", "checkpoints", "log.jsonl")
"""Files of a run beside its recipe, which a folder of the user's may hold too."""
STUDIES = ("ladder", "sweep", "scale")
TABLES = (".json", ".csv", ".md", ".svg")
"""Files that `mlxt ladder` and its like write beside their runs: ladder.json, ladder.csv ..."""
REMOVING = ".removing-"
"""Beginning of the name of a folder that is being removed."""


@dataclass(frozen=True)
class Usage:
    """A run of the list.

    Attributes:
        name: its name.
        recipe: the recipe that its command named; None if unknown.
        step, steps: steps done, and steps of its recipe.
        val_loss: its last validation loss; None without an evaluation.
        checkpoints: number of checkpoints.
        bytes: size on disk.
        changed: time of its last record or file.
        training: whether a process trains it now.
    """

    name: str
    recipe: str | None
    step: int
    steps: int | None
    val_loss: float | None
    checkpoints: int
    bytes: int
    changed: datetime
    training: bool


def usage(root: Path = RUNS) -> list[Usage]:
    """List the runs of a folder, the newest last; folders of ladders are looked into.

    Raises:
        RunError: `root` is no folder.
    """
    check_root(root)
    if not root.is_dir():
        return []
    found = []
    for place in ("*/recipe.toml", "*/*/recipe.toml"):
        for path in glob(place, root_dir=root, include_hidden=True):
            if REMOVING not in path:
                with suppress(FileNotFoundError):  # removed meanwhile
                    found.append(_usage(RunFolder((root / path).parent), root))
    return sorted(found, key=lambda run: (run.changed, run.name))


def remove(names: Sequence[str], root: Path = RUNS) -> int:
    """Delete runs with all their checkpoints; returns the bytes freed.

    Nothing is deleted unless all can be. Of a ladder, a sweep or a scaling grid, named by its
    folder, the runs and tables are deleted; the folder stays if it holds anything else.

    Raises:
        RunError: there is no such run, it is being trained, or the folder holds no run.
    """
    folders = named(names, root)
    studies = {inside[0].path.parent for name in names if (inside := study_runs(name, root))}
    for folder in folders:
        with folder.locked():
            pass
    freed = sum(_size(folder.path) for folder in folders)
    for folder in folders:
        with folder.locked():
            # Out of sight in one step: a kill half way must not leave half a run.
            aside = folder.path.with_name(f"{REMOVING}{folder.name}")
            os.rename(folder.path, aside)
            remove_tree(aside)
    for study in studies:
        _remove_tables(study)
    return freed


def _remove_tables(study: Path) -> None:
    """Delete the tables and plots of a study whose runs are gone, and its folder if that is empty
    then."""
    for kind in STUDIES:
        if (study / f"{kind}.json").is_file():
            for name in (*(f"{kind}{suffix}" for suffix in TABLES), "report.html"):
                (study / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds files of the user's
        study.rmdir()


def prune(names: Sequence[str], keep: int = 1, root: Path = RUNS) -> int:
    """Delete all but the newest `keep` checkpoints and the best of runs; returns the bytes freed.

    Args:
        names: names or folders of runs; none means all of `root`.
        keep: number of newest checkpoints to keep.
        root: the folder of runs.

    Raises:
        RunError: there is no such run, or it is being trained.
    """
    folders = named(names or [run.name for run in usage(root) if not run.training], root)
    freed = 0
    for folder in folders:
        with folder.locked():
            before = _size(folder.path)
            checkpoint.prune(folder.checkpoints, keep)
            freed += before - _size(folder.path)
    return freed


def named(names: Sequence[str], root: Path = RUNS) -> list[RunFolder]:
    """Find runs by their names; the folder of a ladder, a sweep or a grid stands for all of its
    runs.

    Raises:
        RunError: there is no such run, the folder holds no run, or is the working folder.
    """
    found = [study_runs(name, root) or [find(name, root)] for name in names]
    folders = list({folder.path.resolve(): folder for some in found for folder in some}.values())
    here = Path.cwd().resolve()
    for folder in folders:
        if here.is_relative_to(folder.path.resolve()):
            raise RunError(f"You are inside {folder.path}: leave it first.")
        if not any((folder.path / name).exists() for name in MADE):
            raise RunError(
                f"{folder.path} is no run: it holds a recipe.toml, and nothing that a run keeps "
                f"({', '.join(MADE)}). Nothing was removed."
            )
    return folders


def _usage(folder: RunFolder, root: Path) -> Usage:
    records = folder.records()
    losses = [r["val_loss"] for r in records if r.get("val_loss") is not None]
    files = list(files_below(folder.path, follow_links=True))
    changed = max((file.st_mtime for file in files), default=folder.path.stat().st_mtime)
    return Usage(
        name=folder.path.relative_to(root).as_posix(),
        recipe=_recipe(folder),
        step=records[-1]["step"] if records else 0,
        steps=_steps(folder),
        val_loss=losses[-1] if losses else None,
        checkpoints=len(checkpoint.checkpoints(folder.checkpoints)),
        bytes=sum(file.st_size for file in files),
        changed=datetime.fromtimestamp(changed),
        training=_is_trained(folder),
    )


def _recipe(folder: RunFolder) -> str | None:
    """The recipe in the command that the run keeps."""
    try:
        kept = read_table(folder.path / "environment.json")
        words = shlex.split(str(kept.get("command", "")))
    except (OSError, ValueError):
        return None
    verb = next((i for i, word in enumerate(words) if word in TRAINING_VERBS), None)
    after = [] if verb is None else words[verb + 1 :]
    if verb is not None and words[verb] == "finetune":
        after = after[1:]
    return Path(after[0]).stem if after and not after[0].startswith("-") else None


def _steps(folder: RunFolder) -> int | None:
    try:
        table = parse_toml(folder.recipe.read_text(encoding="utf-8"), str(folder.recipe))
        return int(table["train"]["steps"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _is_trained(folder: RunFolder) -> bool:
    try:
        with folder.locked():
            return False
    except RunError:
        return True


def _size(folder: Path) -> int:
    return sum(file.st_size for file in files_below(folder))
