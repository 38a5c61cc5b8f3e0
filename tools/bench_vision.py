"""The training steps of a ViT and of Whisper beside transformers' in PyTorch, as ratios.

    python tools/bench_vision.py --torch-python PATH [--rounds 5] [--threads 2] [--only vit]

PATH is an interpreter with torch and transformers. The same sizes, batches, dtype (float32) and
optimizer (AdamW) on both sides, and attention in the fastest form of each. Every side is a process
of its own, and they take turns, so that a machine that slows down slows both; a ratio is taken
within a round, and its median and quartiles over the rounds are printed. Pictures or sounds are
counted by two clocks, the wall's and the seconds that the cores computed, which other work on the
machine hardly disturbs (`--threads 1`: a thread that waits for another may spin).
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from bench_peers import alone, spread
from bench_sides import WARMUP, run_ours, speed

TOOLS = Path(__file__).parent
SIZES: dict[str, dict[str, int]] = {
    "vit": {
        "dim": 192,
        "layers": 6,
        "heads": 3,
        "hidden": 768,
        "batch": 16,
        "image": 96,
        "patch": 8,
    },
    "vit_tiny": {
        "dim": 64,
        "layers": 3,
        "heads": 4,
        "hidden": 128,
        "batch": 64,
        "image": 28,
        "patch": 4,
    },
    "whisper": {
        "dim": 192,
        "layers": 3,
        "heads": 3,
        "hidden": 768,
        "batch": 8,
        "frames": 400,
        "mels": 80,
        "length": 48,
        "vocab": 2048,
    },
    "whisper_tiny": {
        "dim": 64,
        "layers": 2,
        "heads": 4,
        "hidden": 192,
        "batch": 16,
        "frames": 400,
        "mels": 40,
        "length": 48,
        "vocab": 64,
    },
}
"""Settings. A ViT reads `image` x `image` grey pixels; Whisper has as many layers on both sides,
and writes `length` tokens about `frames` frames of `mels` features."""
CLASSES = 10
FIGURES = ("per_s", "per_cpu_s", "rss_mib")


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps(ours(args.side, args.steps)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds")
    for name in args.only or SIZES:
        compare(name, args)


def parse() -> argparse.Namespace:
    """Parse the settings, the number of repeats and the path of PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", choices=SIZES, help="a setting; may repeat")
    parser.add_argument("--side", choices=SIZES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.side and not args.torch_python:
        parser.error("--torch-python: name an interpreter that has torch and transformers.")
    return args


def compare(name: str, args: argparse.Namespace) -> None:
    """Both sides in turns, and the ratios."""
    steps = ["--steps", str(args.steps)]
    given = ["--sizes", json.dumps(SIZES[name]), "--threads", str(args.threads)]
    sides = {
        "mlxt": [sys.executable, __file__, "--side", name, *steps],
        "torch": [args.torch_python, str(TOOLS / "peer_torch_vision.py"), *given, *steps],
    }
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, command in sides.items():
            result = alone(command, args.threads)
            found[side].append(result)
            print(
                f"{name}  round {number + 1}  {side:<6} {result['per_s']:8.1f} /s  "
                f"{result['per_cpu_s']:8.1f} /CPU s  RSS {result['rss_mib']:5.0f} MiB  loss "
                f"{result['loss']:.4f}",
                file=sys.stderr,
                flush=True,
            )
    cells = [f"{figure} {spread(found, 'mlxt', 'torch', figure)}" for figure in FIGURES]
    print(f"{name}: mlxt / torch: {', '.join(cells)}", flush=True)


def ours(name: str, steps: int) -> dict[str, float]:
    """Our trainer's loop, with a callback that reads the clocks."""
    import mlx.core as mx

    from mlx_transformers.assembly.parallel import parallel_rows
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    sizes = SIZES[name]
    sees = "image" in sizes
    settings = seeing(sizes) if sees else hearing(sizes)
    train = [f"train.steps={steps + WARMUP}", f"train.batch_size={sizes['batch']}"]
    train += ["train.clip={kind='none'}", "optim.learning_rate=1e-5"]
    train += ["optim.schedule={kind='constant'}"]
    recipe = load_recipe("vit_tiny" if sees else "whisper_tiny", [*settings, *train])
    mx.random.seed(0)
    model = recipe.model.build(sizes.get("vocab", 256))
    optimizer = recipe.optim.build(model, recipe.train.steps)
    state = TrainState(model, optimizer, recipe.train)
    parallel = parallel_rows(recipe)
    step = Step(state, recipe.objective.build(), recipe.train, parallel=parallel)
    batches = [batch(sizes, seed) for seed in range(steps + WARMUP)]
    marks, found = run_ours(step, batches, recipe.train)
    both = speed(steps * sizes["batch"], *marks)
    return {"per_s": both["tokens_per_s"], "per_cpu_s": both["tokens_per_cpu_s"]} | found


def batch(sizes: dict[str, int], seed: int) -> dict[str, Any]:
    """Random pictures with their classes, or random spectra with their texts."""
    import numpy as np

    draw, rows = np.random.default_rng(seed), sizes["batch"]
    if "image" in sizes:
        pixels = draw.integers(0, 256, (rows, sizes["image"] ** 2)).astype(np.int32)
        label = draw.integers(0, CLASSES, rows).astype(np.int32)
        return {"pixels": pixels, "label": label, "weights": np.ones(rows, np.float32)}
    frames = draw.standard_normal((rows, sizes["frames"], sizes["mels"])).astype(np.float32)
    tokens = draw.integers(0, sizes["vocab"], (rows, sizes["length"] + 1)).astype(np.int32)
    weights = np.ones((rows, sizes["length"]), np.float32)
    return {"frames": frames, "tokens": tokens, "weights": weights}


def seeing(sizes: dict[str, int]) -> list[str]:
    """The settings of `vit_tiny` for these sizes."""
    side = sizes["image"] // sizes["patch"]
    return [
        f"model.image_size=[{sizes['image']},{sizes['image']}]",
        f"model.embed={{kind='patches', size={sizes['patch']}, channels=1}}",
        f"model.position={{kind='grid', rows={side}, columns={side}}}",
        f"model.dim={sizes['dim']}",
        f"model.n_layers={sizes['layers']}",
        "model.block.dropout=0.0",
        f"model.block.mixer.n_heads={sizes['heads']}",
        f"model.block.ffn.hidden_dim={sizes['hidden']}",
        f"model.pool={{kind='classifier', n_classes={CLASSES}, activation='tanh'}}",
        f"train.seq_len={sizes['image'] ** 2}",
    ]


def hearing(sizes: dict[str, int]) -> list[str]:
    """The settings of `whisper_tiny` for these sizes."""
    sides = [
        setting
        for side in ("encoder", "decoder")
        for setting in (
            f"model.{side}.n_layers={sizes['layers']}",
            f"model.{side}.block.mixer.n_heads={sizes['heads']}",
            f"model.{side}.block.ffn.hidden_dim={sizes['hidden']}",
        )
    ]
    return [
        *sides,
        f"model.decoder.block.cross.n_heads={sizes['heads']}",
        f"model.encoder.embed={{kind='frames', n_mels={sizes['mels']}, strides=[1, 2]}}",
        f"model.dim={sizes['dim']}",
        f"model.max_seq_len={sizes['length'] + 1}",
        f"train.seq_len={sizes['length']}",
    ]


if __name__ == "__main__":
    main()
