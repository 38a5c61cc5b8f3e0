"""A run on disk, and how runs are named and found.

runs/<name>/
  recipe.toml   environment.json   plan.json   log.jsonl   tokenizer/
  checkpoints/step-000100/...      checkpoints/last, best
  base/                            frozen weights of a run with adapters
"""

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import FormatError, RunError
from ..core.names import nearest
from ..core.parse import LINE, parse_json, read_records
from ..core.paths import command_line, expanded, plain_name, shown
from .checkpoint import best, newest, pointed
from .durable import partial_of, replace_text, writing

RUNS = Path("runs")
"""Folder of the runs, below the current one."""
IMPORTING = ".importing"
"""The folder inside that of a new run in which an import or a changed run is written at first."""
UNBEGUN = {".lock", ".recipe.toml.partial", "checkpoints", "base"}
"""Files of a folder whose run was killed before it wrote its recipe."""
TEXTS = {"sample", "warning"}
"""Keys of a record whose values are texts; all others are numbers, or null for NaN."""
OTHER_ROOT = "Choose another folder with --runs."
TRAIN_FIRST = "Train one first: mlxt train recipes/mistral_tiny.toml"


class LogWarning(UserWarning):
    """Lines of a run's log that can't be read."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Files are read on request only."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def newest(self) -> Path | None:
        """The checkpoint that was saved last."""
        return newest(self.checkpoints)

    def best(self) -> Path | None:
        """The checkpoint with the best evaluation so far."""
        return best(self.checkpoints)

    def describe(self, recipe_toml: str, environment: dict[str, Any]) -> None:
        """Write the resolved recipe and the environment; earlier files stay if that fails."""
        text = json.dumps(environment, indent=2)  # ASCII: a folder's name may not be UTF-8
        with writing(self.path):
            replace_text(self.recipe, recipe_toml)
            replace_text(self.path / "environment.json", text + "\n")

    def keep_plan(self, plan: dict[str, Any]) -> None:
        """Write plan.json: planned memory, and the measured peak when there is one."""
        with writing(self.plan):
            replace_text(self.plan, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")

    def keep_tokenizer(self, save: Callable[[Path], object]) -> None:
        """Save the tokenizer atomically, unless the run has it already."""
        if self.tokenizer.exists():
            return
        partial = self.path / ".tokenizer.partial"
        with writing(self.tokenizer):
            shutil.rmtree(partial, ignore_errors=True)
            save(partial)
            os.rename(partial, self.tokenizer)

    def clear_leftovers(self) -> None:
        """Remove files that a killed process was about to put in place; the run must be locked."""
        for place in (self.plan, self.recipe, self.path / "environment.json"):
            partial_of(place).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what a killed process left of a run that never began; it must be locked.

        Raises:
            RunError: another process has made this run since its folder was created.
        """
        if self.recipe.exists():
            raise RunError(f"Another process has just made the run '{self.name}'. Choose a --name.")
        with writing(self.path):
            # IMPORTING goes last: by it a folder with other files is known as one without a run.
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == IMPORTING):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != ".lock":
                    path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock, so that no other process trains it; a kill releases it.

        Raises:
            RunError: another process trains it now, or the lock file can't be opened.
        """
        lock = self.path / ".lock"
        with writing(lock):
            file = open(lock, "a")  # noqa: SIM115  (closed below, when training ends)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{self.path} is being trained by another process. Wait until it ends, or "
                    "give this run another --name."
                ) from None
            yield

    def records(self) -> list[dict[str, Any]]:
        """Return the records of log.jsonl. Lines that are no records are skipped, with a warning."""
        if not self.log.is_file():
            return []
        records, unreadable = read_records(self.log, _is_record)
        if unreadable:
            listed = ", ".join(map(str, unreadable[:5])) + (", …" if len(unreadable) > 5 else "")
            warnings.warn(
                f"{self.log}: {len(unreadable)} of its lines can't be read and are skipped "
                f"(line {listed}).",
                LogWarning,
                stacklevel=2,
            )
        return records

    def forget_after(self, step: int) -> None:
        """Drop the records of steps that a resumed run will repeat, and a last line that a kill cut
        short; all other lines stay as they are."""
        if not self.log.is_file():
            return
        partial = self.log.with_suffix(".partial")
        with writing(self.log):
            lines = self.log.read_bytes().split(b"\n")[:-1]
            kept = [line for line in lines if not _is_after(line, step)]
            partial.write_bytes(b"".join(line + b"\n" for line in kept))
            os.replace(partial, self.log)


def _is_record(record: Mapping[str, Any]) -> bool:
    """Whether an object has the form of a record: its step and tokens, and numbers or texts."""
    step = record.get("step")
    if not _is_number(step) or not isinstance(step, int) or step < 0:
        return False
    rest = {key: value for key, value in record.items() if key != "step"}
    if rest and not _is_number(rest.get("tokens")):
        return False
    for key, value in rest.items():
        # Statistics of a layer, ROUTER/LAYER, may be a list: one number for each expert.
        values = value if isinstance(value, list) and "/" in key else [value]
        if not all(isinstance(each, str) if key in TEXTS else _is_metric(each) for each in values):
            return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_metric(value: object) -> bool:
    return value is None or _is_number(value)


def _is_after(line: bytes, step: int) -> bool:
    try:
        record = parse_json(line, "log.jsonl", LINE)
    except FormatError:
        return False
    at = record.get("step") if isinstance(record, dict) else None
    return isinstance(at, int) and at > step


def check_new(name: str | None, root: Path = RUNS) -> None:
    """Check that a run can be created, before hours of preparation.

    Raises:
        RunError: a run of that name exists, the name isn't one of a folder, or `root` can't
            take one.
    """
    if name is not None:
        plain_name(name, "a run", RunError)
    if name is not None and (root / name).exists() and not _unbegun(root / name):
        raise RunError(_taken(name, root))
    above = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not above.is_dir():
        raise RunError(f"Runs can't be kept in {root}/: {above} is a file. {OTHER_ROOT}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise RunError(f"Runs can't be kept in {root}/: {above} can't be written to. {OTHER_ROOT}")


def create(name: str | None, stem: str, root: Path = RUNS) -> RunFolder:
    """Create a run's folder: `name`, or the recipe's name with a number if that is taken.

    Raises:
        RunError: as `check_new`, or the system refuses.
    """
    check_new(name, root)
    names = [name] if name is not None else [stem, *(f"{stem}-{i}" for i in range(2, 10_000))]
    for candidate in names:
        path = root / candidate
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if name is None or not _unbegun(path):
                continue
        except OSError as error:
            raise RunError(f"{path} can't be made: {error.strerror}. {OTHER_ROOT}") from error
        return RunFolder(path)
    raise RunError(_taken(name or stem, root))


def _taken(name: str, root: Path) -> str:
    return (
        f"A run '{name}' exists already in {root}/. Choose another --name, or remove the folder "
        "yourself; train and finetune continue it with --resume auto."
    )


def _unbegun(path: Path) -> bool:
    """Whether a kill left this folder before it held a recipe."""
    names = {p.name for p in path.iterdir()} if path.is_dir() else {"a file"}
    if IMPORTING in names and "recipe.toml" not in names:
        return True
    if not names <= UNBEGUN:
        return False
    saved = path / "checkpoints"
    return not saved.exists() or {p.name for p in saved.glob("step-*")} <= {"step-000000"}


def check_root(root: Path) -> None:
    """Check that the folder of runs is one, if it exists.

    Raises:
        RunError: it is a file or a pipe.
    """
    if root.exists() and not root.is_dir():
        raise RunError(f"{shown(str(root))} is no folder, and holds no runs. {OTHER_ROOT}")


def study_runs(name: str | Path, root: Path = RUNS) -> list[RunFolder]:
    """The runs of the ladder, sweep or scaling grid that `name` is, below `root`; else none."""
    for folder in (root / name, expanded(name)):
        if folder.resolve().parent == root.resolve() and not (folder / "recipe.toml").exists():
            found = sorted(folder.glob("*/recipe.toml"))
            # A hidden folder is what a removal that was killed has left.
            return [RunFolder(p.parent) for p in found if not p.parent.name.startswith(".")]
    return []


def find(run: str | Path | None = None, root: Path = RUNS) -> RunFolder:
    """Find a run by name, by folder, or (None) the newest one.

    Raises:
        RunError: there is none; names the nearest. Or `root` is no folder.
    """
    check_root(root)
    names = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    if run is None:
        runs = [RunFolder(root / name) for name in names]
        saved = [(p.stat().st_mtime, r.name, r) for r in runs if (p := r.newest()) is not None]
        if not saved:
            raise RunError(f"There is no trained run in {root}/. {TRAIN_FIRST}")
        return max(saved)[2]
    for path in (root / run, expanded(run)):
        if (path / "recipe.toml").is_file() and path.is_dir():
            return RunFolder(path)
    if inside := study_runs(run, root):
        listed = ", ".join(f"{folder.path.parent.name}/{folder.name}" for folder in inside)
        raise RunError(f"'{run}' is no run, but holds some. Name one of them: {listed}.")
    if str(run) in names and not (root / run / "recipe.toml").exists():
        raise RunError(f"{root / run} is no run: it has no recipe.toml.")
    match = nearest(str(run), names)
    hint = f"Did you mean '{match}'? " if match else ""
    known = f"Runs in {root}/: {', '.join(names)}." if names else TRAIN_FIRST
    raise RunError(f"There is no run '{run}'. {hint}{known}")


def named_checkpoint(path: Path) -> tuple[RunFolder, Path] | None:
    """The run and the checkpoint that `path` names by folder or pointer, even a damaged one.

    Raises:
        RunError: the run has no such checkpoint.
    """
    path = expanded(path)
    if path.parent.name != "checkpoints" or not path.parent.is_dir():
        return None
    if not path.exists():
        saved = ", ".join(sorted(each.name for each in path.parent.glob("[!.]*"))) or "none"
        raise RunError(f"{path.parent.parent} has no checkpoint '{path.name}'. It has: {saved}.")
    target = None
    if path.is_file() and path.name in ("last", "best"):
        target = pointed(path.parent, "last" if path.name == "last" else "best")
    return RunFolder(path.parent.parent), target or path


def find_checkpoint(run: str | Path | None = None, root: Path = RUNS) -> tuple[RunFolder, Path]:
    """A run and one of its checkpoints: the one named, else the best, else the newest.

    Raises:
        RunError: there is no such run, or it has no checkpoint yet.
    """
    for path in () if run is None else (Path(run), root / run):
        if named := named_checkpoint(path):
            return named
    folder = find(run, root)
    checkpoint = folder.best() or folder.newest()
    if checkpoint is None:
        raise RunError(
            f"Run {folder.path} has no checkpoint yet: it was stopped before its first. Train it: "
            + command_line("train", folder.recipe, "--name", folder.name, "--resume", "auto")
        )
    return folder, checkpoint
