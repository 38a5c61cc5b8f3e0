"""Whether a long run stays as large as it was: memory and traces over 1,000 steps.

    python tools/bench_flat.py [--steps 1000] [--set PATH=VALUE ...] [--out flat.json]

A recipe is trained by the trainer's own loop, with an evaluation in every window of steps. Printed,
and saved with --out: by window the floor of MLX's active memory and the process's resident size,
read after every step and ten times a window. Flat means that from the second window on no floor is
more than 1 % (resident: 3 %, since MLX keeps buffers for reuse) above the one at the beginning, and
that the step was traced once for each declared shape. The exit code is 1 where it isn't.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import mlx_transformers  # noqa: F401  before mlx: the BLAS and kernels that training has

WINDOWS = 10
ACTIVE, RESIDENT = 0.01, 0.03
"""How far above the second window's floor a later one may be."""

SETS = ["train.batch_size=2", "train.seq_len=64", "model.n_layers=2", "eval.batches=2"]


def main() -> None:
    args = parse()
    found = measure(args.recipe, [*SETS, *args.set], args.steps)
    print(f"{'steps':>12} {'active MiB':>11} {'resident MiB':>13}")
    for row in found["windows"]:
        print(f"{row['until']:12} {row['active_mib']:11.2f} {row['resident_mib']:13.1f}")
    print(
        f"active {found['active_growth']:+.2%}, resident {found['resident_growth']:+.2%} at most "
        f"over the second window; {found['traces']} traces of the step, {found['declared']} "
        f"declared: {'flat' if found['flat'] else 'NOT flat'}"
    )
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(not found["flat"])


def parse() -> argparse.Namespace:
    """The recipe, its settings, and how long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="llama_tiny")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[], help="another setting")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    args = parser.parse_args()
    if args.steps < 20 * WINDOWS:
        parser.error(f"--steps: a floor takes 20 steps in each of {WINDOWS} windows.")
    return args


def measure(name: str, sets: list[str], steps: int) -> dict[str, Any]:
    """Train, and read memory while it runs."""
    import mlx.core as mx

    from mlx_transformers.assembly.build import build
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.assembly.streams import held_out_batches, mixed_batches, training_feed
    from mlx_transformers.runs.progress import Progress
    from mlx_transformers.trainer.callbacks import Evaluate, Report
    from mlx_transformers.trainer.loop import Trainer
    from mlx_transformers.trainer.metrics import Window

    width = steps // WINDOWS
    recipe = load_recipe(name, [*sets, f"train.steps={steps}", f"eval.every={width}"])
    built, config = build(recipe), recipe.train
    feed = training_feed(built)
    report = Report(recipe.log, Window(0.0, None), [], False)

    valid = partial(held_out_batches, built, recipe.eval.batches)
    mixed = partial(mixed_batches, built, recipe.eval.batches)

    active: list[list[int]] = [[] for _ in range(WINDOWS)]
    resident: list[list[int]] = [[] for _ in range(WINDOWS)]

    def read(trainer: Trainer, metrics: dict[str, mx.array]) -> None:
        step = trainer.progress.step
        window = min((step - 1) // width, WINDOWS - 1)
        active[window].append(mx.get_active_memory())
        if step % max(1, width // 10) == 0:
            resident[window].append(resident_bytes())

    callbacks = [report, read, Evaluate(recipe.eval, built.evaluator, valid, mixed, report)]
    with closing(feed):
        Trainer(built.step, feed, config, callbacks, Progress()).run()
    floors = [(min(a), min(r)) for a, r in zip(active, resident, strict=True)]
    growth = [max(each[i] for each in floors[1:]) / floors[1][i] - 1 for i in (0, 1)]
    traces, declared = built.step.traces, built.step.declared_traces
    return {
        "recipe": name,
        "sets": sets,
        "windows": [
            {"until": (i + 1) * width, "active_mib": a / 2**20, "resident_mib": r / 2**20}
            for i, (a, r) in enumerate(floors)
        ],
        "active_growth": growth[0],
        "resident_growth": growth[1],
        "traces": traces,
        "declared": declared,
        "flat": growth[0] <= ACTIVE and growth[1] <= RESIDENT and traces == declared,
    }


def resident_bytes() -> int:
    """Resident memory of this process now, from `ps` on Linux and macOS."""
    words = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout) * 1024


if __name__ == "__main__":
    main()
