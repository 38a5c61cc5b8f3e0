"""LoRA training beside mlx-lm's and PEFT's, in one run: tokens/s and peak memory, as ratios.

    pip install 'mlxt[mlx-lm]'
    python tools/bench_lora.py --json FILE [--torch-python PATH] [--size 25M] [--rounds 5]

The same LLaMA, rows, rank, targets (all linear layers of the blocks), optimizer (AdamW) and float32
everywhere, from random base weights, which speed doesn't depend on. Every side is a process of its
own and they take turns, so that a machine that slows down slows all; ratios are taken within a
round. Run it on a machine that does nothing else. PEFT runs in an interpreter of its own that has
torch, transformers and peft; a side that isn't installed is left out.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from bench_sides import mlx_lm_model, rows, run_mlx_lm, run_ours, settings, speed

SIZES = {
    "tiny": {"dim": 64, "layers": 2, "heads": 4, "kv_heads": 2, "hidden_dim": 176, "vocab": 512},
    "25M": {"dim": 512, "layers": 8, "heads": 8, "kv_heads": 4, "hidden_dim": 1376, "vocab": 4096},
    "135M": {
        "dim": 576,
        "layers": 30,
        "heads": 9,
        "kv_heads": 3,
        "hidden_dim": 1536,
        "vocab": 49152,
    },
}
"""The last is that of SmolLM2-135M."""
FIGURES = ("tokens_per_s", "peak_mib", "rss_mib")


def main() -> None:
    args = parse()
    vars(args).update(SIZES[args.size])
    if args.side:
        print(json.dumps({"ours": ours, "mlx-lm": mlx_lm}[args.side](args)))
        return
    found = measure(args)
    middle = {
        side: {n: statistics.median(r[n] for r in own) for n in own[0]}
        for side, own in found.items()
    }
    ratios = {
        f"ours / {side}": {
            name: statistics.median(
                a[name] / b[name] for a, b in zip(found["ours"], own, strict=True)
            )
            for name in FIGURES
            if name in own[0]
        }
        for side, own in found.items()
        if side != "ours"
    }
    report = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "size": args.size,
        "rank": args.rank,
        "rounds": args.rounds,
        "median": middle,
        "ratios": ratios,
        "all": found,
    }
    print(json.dumps({"median": middle, "ratios": ratios}, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Sizes, and which sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--torch-python", help="an interpreter that has peft; none leaves it out")
    parser.add_argument("--size", choices=SIZES, default="25M")
    numbers = {"rank": 8, "batch": 4, "length": 256, "steps": 12, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--side", choices=("ours", "mlx-lm"))
    parser.add_argument(
        "--set", action="append", default=[], help="a recipe's key=value, ours only"
    )
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """All sides that are installed, in turns."""
    own = sys.argv[1:]
    sides = {"ours": [sys.executable, __file__, *own, "--side", "ours"]}
    if importlib.util.find_spec("mlx_lm") is not None:
        sides["mlx-lm"] = [sys.executable, __file__, *own, "--side", "mlx-lm"]
    if args.torch_python:
        script = str(Path(__file__).with_name("peer_peft.py"))
        names = ("rank", "batch", "length", "steps", *SIZES["tiny"])
        sizes = json.dumps({name: getattr(args, name) for name in names})
        sides["peft"] = [args.torch_python, script, sizes]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, command in sides.items():
            env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or side != "peft"}
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                sys.exit(done.stderr)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1} {side:<7} {found[side][-1]}", file=sys.stderr, flush=True)
    return found


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Our trainer's loop on a frozen model with adapters."""
    import mlx.core as mx
    import numpy as np

    from mlx_transformers.assembly.parallel import parallel_rows
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.layers.adapters.adapter import adapt
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    lora = f'adapt={{ kind = "lora", rank = {args.rank}, alpha = {2.0 * args.rank} }}'
    recipe = load_recipe("recipes/llama_tiny.toml", [*settings(args), lora])
    mx.random.seed(0)
    model = recipe.model.build(args.vocab)
    assert recipe.adapt is not None
    adapt(model, recipe.adapt)
    optimizer = recipe.optim.build(model, recipe.train.steps)
    state = TrainState(model, optimizer, recipe.train)
    parallel = parallel_rows(recipe)
    step = Step(state, recipe.objective.build(), recipe.train, parallel=parallel)
    batches = np.array(rows(args), np.int32).reshape(-1, args.batch, args.length + 1)

    marks, found = run_ours(step, batches, recipe.train)
    return speed(args.steps * args.batch * args.length, *marks) | found


def mlx_lm(args: argparse.Namespace) -> dict[str, float]:
    """mlx-lm's trainer on its own LoRA."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import linear_to_lora_layers

    mx.random.seed(0)
    model = mlx_lm_model(args, args.vocab)
    model.freeze()
    lora = {"rank": args.rank, "scale": 2.0, "dropout": 0.0}
    linear_to_lora_layers(model, args.layers, lora)
    return run_mlx_lm(model, args)


if __name__ == "__main__":
    main()
