"""Our training step against mlx-lm's, on the same LLaMA, batch, data and BLAS.

    pip install 'mlxt[mlx-lm]'; python tools/bench_step.py [--dim 256 ...] [--rounds 3]

Both sides run as their own trainers run them, each in a process of its own so that peak memory is
its own, in turns (ours, theirs, ours, ...) so that a machine that slows down slows both. Printed:
tokens/s and peak memory of every round, and the ratios of the medians.
"""

import argparse
import json
import statistics
import subprocess
import sys

from bench_sides import (
    SIZES,
    add_sizes,
    mlx_lm_model,
    rows,
    run_mlx_lm,
    run_ours,
    settings,
    speed,
)


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[args.side](args)))
        return
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for number in range(args.rounds):
        for side, results in sides.items():
            command = [sys.executable, __file__, "--side", side, *sys.argv[1:]]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            shown = results[-1]
            print(
                f"round {number + 1} {side:>6}: {shown['tokens_per_s']:8,.0f} tokens/s, "
                f"peak {shown['peak_mib']:6,.0f} MiB, loss {shown['loss']:.4f}",
                flush=True,
            )
    middle = {
        side: {name: statistics.median(r[name] for r in results) for name in results[0]}
        for side, results in sides.items()
    }
    print(f"tokens/s     ours / mlx-lm = {ratio(middle, 'tokens_per_s'):.2f}")
    print(f"peak memory  ours / mlx-lm = {ratio(middle, 'peak_mib'):.2f}")


def ratio(middle: dict[str, dict[str, float]], name: str) -> float:
    """Ours by theirs."""
    return middle["ours"][name] / middle["theirs"][name]


def parse() -> argparse.Namespace:
    """Sizes of the model and the batch; the defaults make 5.5M parameters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_sizes(parser, SIZES)
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument(
        "--set", action="append", default=[], help="a recipe's key=value, ours only"
    )
    return parser.parse_args()


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Our trainer's loop, with a moment that reads the clock."""
    import mlx.core as mx
    import numpy as np

    from mlx_transformers.assembly.parallel import parallel_rows
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    recipe = load_recipe("recipes/llama_tiny.toml", settings(args))
    mx.random.seed(0)
    model = recipe.model.build(args.vocab)
    optimizer = recipe.optim.build(model, recipe.train.steps)
    state = TrainState(model, optimizer, recipe.train)
    parallel = parallel_rows(recipe)
    step = Step(state, recipe.objective.build(), recipe.train, parallel=parallel)
    batches = np.array(rows(args), np.int32).reshape(-1, args.batch, args.length + 1)

    marks, found = run_ours(step, batches, recipe.train)
    return speed(args.steps * args.batch * args.length, *marks) | found


def theirs(args: argparse.Namespace) -> dict[str, float]:
    """mlx-lm's trainer, with a callback that reads the clock."""
    import mlx.core as mx

    mx.random.seed(0)
    return run_mlx_lm(mlx_lm_model(args, args.vocab), args)


if __name__ == "__main__":
    main()
