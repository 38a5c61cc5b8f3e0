"""Sweeps: a recipe's speed and memory over a grid of settings, each cell in its own process.

The peak memory is then that of the cell, and a cell that the system kills doesn't end the sweep.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..assembly.model import draft_model
from ..assembly.plan import check_fits, plan
from ..assembly.recipe import load_recipe
from ..core.errors import MlxtError, RecipeError, RunError
from ..core.messages import LogFn
from ..core.parse import read_table

OPTION = "--sweep"


@dataclass(frozen=True)
class Axis:
    """A key of the recipe and its values, as --set spells them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """The measurement at one setting.

    Attributes:
        settings: the value of each axis, by key.
        tokens_per_s: median tokens per second of the trainer's loop; None where the cell failed.
        low, high: its quartiles.
        peak_gib: peak MLX memory of the loop, GiB.
        mfu: model FLOPs utilization; None where the reference product was disturbed.
        error: why the cell failed, in a sentence.
        planned: whether it was skipped because the plan says that it would not fit.
        mfu_missing: why `mfu` is None in a cell that was measured.
    """

    settings: dict[str, str]
    tokens_per_s: float | None = None
    low: float | None = None
    high: float | None = None
    peak_gib: float | None = None
    mfu: float | None = None
    error: str | None = None
    planned: bool = False
    mfu_missing: str | None = None


def parse_axes(texts: Sequence[str], option: str = OPTION) -> list[Axis]:
    """Parse axes from `KEY=VALUE,VALUE,...` strings.

    Raises:
        RecipeError: one is malformed, or a key occurs twice.
    """
    axes: list[Axis] = []
    for text in texts:
        key, equals, listed = text.partition("=")
        values = tuple(value.strip() for value in _split(listed))
        if not equals or not key.strip() or not all(values):
            raise RecipeError(
                f"{option} {text}: write it as KEY=VALUE,VALUE, e.g. {option} "
                "train.batch_size=1,2,4."
            )
        if key.strip() in (axis.key for axis in axes):
            raise RecipeError(f"{option} {text}: '{key.strip()}' is swept twice. Give it once.")
        axes.append(Axis(key.strip(), tuple(dict.fromkeys(values))))
    return axes


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def sweep(
    recipe: str,
    sets: Sequence[str],
    axes: Sequence[Axis],
    steps: int,
    say: LogFn = lambda _: None,
) -> list[Cell]:
    """Measure every combination of the axes' values, the last axis fastest.

    Raises:
        RecipeError: no combination is a recipe.
    """
    grid = [
        dict(zip([a.key for a in axes], v, strict=True)) for v in product(*(a.values for a in axes))
    ]
    wrong: dict[int, str] = {}
    for number, settings in enumerate(grid):
        try:
            load_recipe(recipe, [*sets, *_spelt(settings)])
        except RecipeError as error:
            wrong[number] = str(error)
    if len(wrong) == len(grid):
        raise RecipeError(wrong[0])
    cells = []
    for number, settings in enumerate(grid):
        say(f"Cell {number + 1} of {len(grid)}: {', '.join(_spelt(settings))} ...")
        if number in wrong:
            cells.append(Cell(settings, error=wrong[number]))
        elif message := too_large(recipe, [*sets, *_spelt(settings)]):
            cells.append(Cell(settings, error=message, planned=True))
        else:
            cells.append(_measured(recipe, [*sets, *_spelt(settings)], settings, steps))
    return cells


def too_large(recipe: str, sets: Sequence[str]) -> str | None:
    """Why a cell would not fit in memory, in a sentence; None where the plan says it does."""
    loaded = load_recipe(recipe, sets)
    try:
        check_fits(plan(loaded, draft_model(loaded)))
    except MlxtError as error:
        return f"Stopped by plan. {error}"
    return None


def read_sweep(path: Path) -> tuple[list[Axis], list[Cell]]:
    """Read the axes and cells of a sweep that `mlxt profile --sweep ... --json` printed.

    Raises:
        RunError: the file can't be read, or holds something else.
    """
    try:
        cells = [Cell(**cell) for cell in read_table(path)["cells"]]
        values: dict[str, dict[str, None]] = {key: {} for key in cells[0].settings}
        for cell in cells:
            for key, value in cell.settings.items():
                values[key][value] = None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} can't be read as a sweep ({str(error).rstrip('.')}). Make one with: "
            f"mlxt profile RECIPE {OPTION} KEY=VALUE,VALUE --json > {path.name}"
        ) from None
    return [Axis(key, tuple(seen_values)) for key, seen_values in values.items()], cells


def best(cells: Sequence[Cell]) -> int | None:
    """The number of the cell with the most tokens per second (median); None if all failed."""
    speeds = [(c.tokens_per_s, i) for i, c in enumerate(cells) if c.tokens_per_s is not None]
    return max(speeds)[1] if speeds else None


def tied(cells: Sequence[Cell]) -> set[int]:
    """The numbers of the cells whose quartiles overlap with those of the best one, except it."""
    if (first := best(cells)) is None:
        return set()
    least = cells[first].low or 0.0
    return {i for i, c in enumerate(cells) if i != first and (c.high or 0.0) >= least}


def _spelt(settings: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _measured(recipe: str, sets: list[str], settings: dict[str, str], steps: int) -> Cell:
    """Measure one cell by `profile/cell.py` in a process of its own."""
    request = json.dumps({"recipe": recipe, "set": sets, "steps": steps})
    command = [sys.executable, "-m", f"{__package__}.cell", request]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return Cell(settings, **json.loads(done.stdout.splitlines()[-1]))
    return Cell(settings, error=why_ended(done.returncode, done.stderr))


def why_ended(code: int, stderr: str) -> str:
    """Why a process ended, in a sentence."""
    if code == -signal.SIGKILL:
        return "The system killed it (SIGKILL), most likely because memory ran out."
    if code < 0:
        return f"It was ended by {signal.Signals(-code).name}, as happens when memory runs out."
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"It ended with exit code {code} and no message."
