"""Sinks for the records of a run: log.jsonl, TensorBoard, Weights & Biases."""

import math
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import RunError
from ..core.parse import json_line
from ..runs.durable import writing
from ..runs.identity import tracker_id
from .config import Log

Record = dict[str, Any]
"""Numbers and texts of a step by name, and the `step`."""


class JsonLines:
    """Appends one JSON object per record to `log.jsonl`, flushed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            if path.exists() and not path.is_file():  # opening a pipe would wait for a reader
                raise RunError(f"{path} is no file: move it away, and continue with --resume.")
            self.file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        # JSON has no NaN or infinity; null reads everywhere.
        clean = {name: _finite(value) for name, value in record.items()}
        with writing(self.path):
            self.file.write(json_line(clean) + "\n")
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _finite(value: object) -> Any:
    """A value with None in place of numbers that are not finite."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class TensorBoard:
    """Writes TensorBoard events into the run's folder (extra `tensorboard`)."""

    def __init__(self, folder: Path) -> None:
        self.writer = self.require().SummaryWriter(str(folder))

    @staticmethod
    def require() -> Any:
        """Import the library.

        Raises:
            RunError: it isn't installed.
        """
        return _optional("tensorboardX", "tensorboard", "log.tensorboard")

    def write(self, record: Record) -> None:
        step = record["step"]
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                self.writer.add_scalar(name, value, step)
            elif isinstance(value, str):
                self.writer.add_text(name, value, step)
        self.writer.flush()


class WandB:
    """Sends records to Weights & Biases (extra `wandb`)."""

    def __init__(self, project: str, folder: Path, recipe: dict[str, Any]) -> None:
        self.run = self.require().init(
            project=project,
            id=tracker_id(folder, "wandb"),
            resume="allow",
            name=folder.name,
            dir=str(folder),
            config=recipe,
        )

    @staticmethod
    def require() -> Any:
        """Import the library.

        Raises:
            RunError: it isn't installed.
        """
        return _optional("wandb", "wandb", "log.wandb")

    def write(self, record: Record) -> None:
        self.run.log({k: v for k, v in record.items() if k != "step"}, step=record["step"])


def require_trackers(config: Log) -> None:
    """Check that the libraries of all requested trackers are installed, before any work.

    Raises:
        RunError: one isn't installed.
    """
    if config.tensorboard:
        TensorBoard.require()
    if config.wandb is not None:
        WandB.require()


def trackers(config: Log, folder: Path, recipe: dict[str, Any]) -> list[TensorBoard | WandB]:
    """Open the trackers that the recipe asks for, for the run in `folder`.

    One that can't begin, as without a network, is left out with a warning.
    """
    opened: dict[str, Callable[[], TensorBoard | WandB]] = {}
    if config.tensorboard:
        opened["log.tensorboard"] = lambda: TensorBoard(folder / "tensorboard")
    if (project := config.wandb) is not None:
        opened["log.wandb"] = lambda: WandB(project, folder, recipe)
    active: list[TensorBoard | WandB] = []
    for key, begin in opened.items():
        try:
            active.append(begin())
        except RunError:
            raise
        except Exception as error:
            reason = f"{key} can't begin ({error}), so the run is not tracked there"
            warnings.warn(f"{reason}. Training continues.", stacklevel=2)
    return active


def _optional(module: str, extra: str, key: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise RunError(
            f"{key} needs the package {module}, which is not installed. Install the extra "
            f"(pip install 'mlxt[{extra}]') or unset {key}."
        ) from error
