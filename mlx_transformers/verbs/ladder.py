"""The ladder: every recipe of a chain on one budget, so that each idea's effect is a number."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.errors import RecipeError, unknown
from ..data.prepare import Progress as Preparing
from ..decode.cache_size import cache_bytes_per_token
from ..decode.engine import Engine
from ..decode.sample import Sampling
from ..layers.counts import count
from ..recipe.load import chain
from ..recipe.validate import typed
from ..runs.folder import RUNS, RunFolder
from .train import train

BUDGET = ("steps", "batch_size", "accumulate", "microbatch", "seq_len", "seed")
"""Keys of [train] that every rung takes from the last, as it takes [data]."""
DECODE_TOKENS = 128
"""Tokens that a rung's decoding speed is measured on, from a nearly empty context."""


@dataclass(frozen=True)
class Rung:
    """One recipe's result.

    Attributes:
        recipe: its name.
        parameters: all of them.
        active_parameters: those that one token meets.
        tokens: tokens trained on.
        val_loss: nats per token at the end of the budget.
        val_bpb: bits per byte at the end of the budget.
        delta_bpb: the difference to the parent; negative is better. None for the root.
        tokens_per_s: median of training reports.
        peak_gib: most memory that MLX held while training.
        decode_tokens_per_s: generation, one row.
        cache_bytes_per_token: decode state of a full context, per token of it.
        seconds: time spent in training steps.
    """

    recipe: str
    parameters: int
    active_parameters: int
    tokens: int
    val_loss: float
    val_bpb: float
    delta_bpb: float | None
    tokens_per_s: float
    peak_gib: float
    decode_tokens_per_s: float
    cache_bytes_per_token: float
    seconds: float


def climb(
    recipe: str | Path,
    sets: Sequence[str] = (),
    *,
    first: str | None = None,
    name: str | None = None,
    root: Path = RUNS,
    say: Callable[[str], None] = print,
    progress: Preparing | None = None,
) -> tuple[Path, list[Rung]]:
    """Train the chain of a recipe from its root; each rung is a run in `root/name/`.

    Every rung gets the data, steps, batch and seed of the recipe asked for. Rungs that are
    finished are kept, one that was stopped goes on: calling again continues.

    Args:
        recipe: the last rung.
        sets: "path=value" strings, for every rung.
        first: the recipe of the chain to begin with; None begins at its root.
        name: the folder of the ladder's runs; None is "ladder-" and the recipe's name.
        root: the folder of runs.
        say: where sentences about the runs go.
        progress: told how far the preparation of the data is, where there is any.

    Raises:
        RecipeError: `first` is not in the chain.
        MlxtError: as `verbs.train.train`.
    """
    files = _from(first, chain(recipe))
    leaf = load_recipe(files[-1], sets)
    folder = root / (name or f"ladder-{files[-1].stem}")
    results: list[Rung] = []
    for path in files:
        say(f"Rung {len(results) + 1} of {len(files)}: {path.stem}")
        rung = _on_budget(load_recipe(path, sets), leaf)
        result = train(rung, name=path.stem, resume="auto", root=folder, say=say, progress=progress)
        if result.reason != "finished" and not result.reason.startswith("stopped early"):
            say(f"The ladder stops here; the same command continues it in {folder}.")
            break
        parent = results[-1].val_bpb if results else None
        results.append(_measure(path.stem, result.folder, parent))
        mx.clear_cache()
    return folder, results


def _from(first: str | None, files: list[Path]) -> list[Path]:
    if first is None:
        return files
    names = [path.stem for path in files]
    if Path(first).stem not in names:
        raise RecipeError(unknown("first rung", first, names))
    return files[names.index(Path(first).stem) :]


def _on_budget(rung: Recipe, leaf: Recipe) -> Recipe:
    """A rung with the data, steps, batch and seed of the ladder's last recipe."""
    assert rung.resolved is not None
    assert leaf.resolved is not None
    data = copy.deepcopy(rung.resolved.data)
    data["data"] = leaf.resolved.data["data"]
    for key in BUDGET:
        data["train"].pop(key, None)
        if key in leaf.resolved.data["train"]:
            data["train"][key] = leaf.resolved.data["train"][key]
    resolved = replace(rung.resolved, data=data)
    out = typed(Recipe, resolved)
    out._resolved = resolved
    return out


def _measure(recipe: str, folder: RunFolder, parent_bpb: float | None) -> Rung:
    records = list(folder.records())
    reports = [r for r in records if "tokens_per_s" in r]
    last = [r for r in records if "val_bpb" in r][-1]
    model, _ = load(folder.path)
    counts = count(model)
    return Rung(
        recipe=recipe,
        parameters=counts.total,
        active_parameters=counts.active,
        tokens=last["tokens"],
        val_loss=last["val_loss"],
        val_bpb=last["val_bpb"],
        delta_bpb=None if parent_bpb is None else last["val_bpb"] - parent_bpb,
        tokens_per_s=statistics.median(r["tokens_per_s"] for r in reports),
        peak_gib=max(r["peak_gib"] for r in reports),
        decode_tokens_per_s=_decode_speed(model),
        cache_bytes_per_token=cache_bytes_per_token(model),
        seconds=reports[-1]["seconds_total"],
    )


def _decode_speed(model: Any) -> float:
    """Tokens per second of one greedy row, the first token and its compilation left out."""
    engine = Engine(model, sampling=Sampling(temp=0.0))
    engine.start([[0]])
    tokens = engine.tokens(DECODE_TOKENS)
    next(tokens)
    started = time.perf_counter()
    made = sum(1 for _ in tokens)
    return made / (time.perf_counter() - started)
