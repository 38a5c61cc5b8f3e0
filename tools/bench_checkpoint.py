"""Measures how long a checkpoint stalls training, written at once and beside it.

    python tools/bench_checkpoint.py [RECIPE] [--set KEY=VALUE ...]

Trains a recipe for 16 steps twice, with `checkpoint.async` off and on, and saves after every fifth.
Prints the median stall of a save, from the moment that the step before it is done, the longest, and
the median time of a step.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.trainer.callbacks import Save
from mlx_transformers.trainer.loop import Trainer
from mlx_transformers.verbs.train import train

STEPS = ("train.steps=16", "checkpoint.every=5", "checkpoint.keep=1", "eval.every=1000")
SETS = (*STEPS, "eval.batches=1", "log.every=1000")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="llama_tiny")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    lines = [f"{'checkpoint.async':18}{'stall, median':>15}{'longest':>12}{'step, median':>15}"]
    for value in ("false", "true"):
        stalls, steps = measure(args.recipe, [*args.set, f"checkpoint.async={value}"])
        figures = (statistics.median(stalls), max(stalls), statistics.median(steps))
        cells = (f"{x * 1e3:,.0f} ms" for x in figures)
        lines.append(f"{value:18}" + "".join(map("{:>{}}".format, cells, (15, 12, 15))))
    print("\n".join(lines))


def measure(recipe: str, sets: list[str]) -> tuple[list[float], list[float]]:
    """Train a recipe; returns the seconds of each save but the last, and those of each step that no
    save came before."""
    stalls, ends, saved = list[float](), list[float](), set[int]()
    plain = Save.__call__

    def timed(self: Save, trainer: Trainer, metrics: Any) -> None:
        save = self.save

        def watched(*given: Any) -> None:
            began = time.perf_counter()
            save(*given)
            if trainer.reason is None:
                stalls.append(time.perf_counter() - began)
                saved.add(trainer.progress.step)

        self.save = watched
        plain(self, trainer, metrics)
        self.save = save
        ends.append(time.perf_counter())

    Save.__call__ = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(load_recipe(recipe, [*SETS, *sets]), root=Path(folder), say=lambda text: None)
    finally:
        Save.__call__ = plain  # type: ignore[method-assign]
    # Steps are queued one ahead, so the one after a save begins late.
    steps = [
        after - before
        for i, (before, after) in enumerate(pairwise(ends), start=1)
        if i > 2 and not {i - 1, i, i + 1} & saved
    ]
    return stalls, steps


if __name__ == "__main__":
    main()
