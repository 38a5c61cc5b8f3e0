"""Measures training and decoding of a few recipes on this machine: `mlxt bench`."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..assembly.recipe import load_recipe
from ..core.device import facts
from ..core.errors import RunError
from ..core.messages import LogFn
from ..profile.others import sentence
from ..profile.rung import BenchRow, measured_apart
from ..runs.durable import replace_text

RUNGS = ("base_tiny", "gpt2_tiny", "llama_tiny", "mistral_tiny", "mixtral_tiny")
"""The chain of the ladder, from the decoder of 2017 to Mixtral."""

SECONDS = 8.0
"""Seconds of training that are measured for each recipe: the whole bench takes three minutes."""


@dataclass(frozen=True)
class Bench:
    """Figures of recipes on one machine.

    Attributes:
        chip: name of the processor or GPU that computes.
        memory_gib: physical memory, GiB.
        system: operating system and its version.
        mlx: version of MLX.
        rows: the figures of each recipe.
        seconds: time that the whole measurement took.
        machine: the facts of `mlxt doctor`.
    """

    chip: str
    memory_gib: float
    system: str
    mlx: str
    rows: tuple[BenchRow, ...]
    seconds: float
    machine: dict[str, Any]


def bench(
    recipes: Sequence[str] = RUNGS,
    sets: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
    say: LogFn = print,
) -> Bench:
    """Measure recipes one after the other, each in a process of its own.

    Args:
        recipes: paths or names of recipes.
        sets: "path=value" strings, for every recipe.
        seconds: seconds of training that are measured for each.
        say: receives progress.

    Raises:
        RecipeError: one of them is no recipe; nothing is measured then.
    """
    for recipe in recipes:
        load_recipe(recipe, sets)
    machine = facts()
    started, rows = time.monotonic(), list[BenchRow]()
    for number, recipe in enumerate(recipes, start=1):
        say(f"Measuring {recipe} ({number} of {len(recipes)}) ...")
        row = measured_apart(recipe, sets, seconds)
        if warning := sentence(row.others):
            say(warning)
        rows.append(row)
    return Bench(
        chip=machine["device_name"],
        memory_gib=machine["memory_gib"],
        system=_system(),
        mlx=machine["mlx"],
        rows=tuple(rows),
        seconds=time.monotonic() - started,
        machine=machine,
    )


def check_new(path: Path) -> None:
    """Raise a RunError if a file to write exists, or its folder doesn't."""
    if path.exists():
        raise RunError(f"{path} exists. Give another name, or delete it first.")
    if not path.parent.is_dir():
        raise RunError(f"There is no folder {path.parent} to write {path.name} into.")


def write_json(result: Bench, path: Path) -> Path:
    """Write all figures and the machine's facts."""
    replace_text(path, json.dumps(asdict(result), indent=2) + "\n")
    return path


def _system() -> str:
    """Name and version of the operating system."""
    mac = platform.mac_ver()[0]
    return f"macOS {mac}" if mac else f"{platform.system()} {platform.release().split('-')[0]}"
