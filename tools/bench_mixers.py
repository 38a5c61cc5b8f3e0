"""Training speed of the linear-time mixers beside attention, at equal parameters, as ratios.

    python tools/bench_mixers.py [--torch-python PATH] [--length 2048] [--rounds 5] [--only NAME]
    python tools/bench_mixers.py --decode [--tokens 16384]

Every side is a small recipe, whose parameters are within 4 % of those of `llama_tiny`. It runs its
compiled training step on two rows in a process of its own; sides take turns, so that a machine that
slows down slows all. A ratio is taken within a round; printed are its median and quartiles, by the
wall's clock and, in brackets, by the seconds that the cores computed, which other work disturbs
less. With an interpreter that has torch and transformers, its Mamba and Mamba-2 of the same sizes
take part, by the path that they have without CUDA kernels.

`--decode` times one row token by token: tokens/s by the median step of each 1,024 tokens, how far
these are apart, and the bytes of the state.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_sides import WARMUP, run_ours, speed

ROOT = Path(__file__).resolve().parent.parent
PARENT = "llama"
SIDES = {
    PARENT: ("llama_tiny", ()),
    "gla": ("efficient/gla_tiny", ()),
    "retnet": ("efficient/retnet_tiny", ()),
    "mamba2": ("state_space/mamba2_tiny", ()),
    "s4d": ("state_space/s4d_tiny", ("model.block.ffn.hidden_dim=384",)),
    "mamba": ("state_space/mamba_tiny", ()),
}
"""The recipe of each side, and what is set in it so that parameters are equal."""
PEERS = ("mamba", "mamba2")
"""Sides that transformers has too."""
WINDOW = 1024
Found = dict[str, list[dict[str, float]]]


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps(train_side(args.side, args)))
        return
    chosen = [name for name in SIDES if not args.only or name in (PARENT, *args.only)]
    if args.decode:
        decode(chosen, args.tokens)
        return
    batch = f"{args.rows} rows of {args.length} tokens"
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, {batch}")
    table(measured(chosen, args))


def parse() -> argparse.Namespace:
    """Lengths, repeats and sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", help="an interpreter with torch and transformers")
    parser.add_argument("--length", type=int, default=2048, metavar="T")
    parser.add_argument("--rows", type=int, default=2, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of BLAS and torch")
    parser.add_argument("--only", nargs="*", default=[], choices=SIDES, metavar="NAME")
    parser.add_argument("--decode", action="store_true", help="time decoding instead")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens to decode")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def recipe_of(name: str, length: int, steps: int = 1, rows: int = 1) -> Any:
    """The recipe of a side, for rows of `length` tokens and nothing in the way of the step."""
    from mlx_transformers.assembly.recipe import load_recipe

    recipe, own = SIDES[name]
    sets = [f"model.max_seq_len={length}", f"train.seq_len={length}", f"train.batch_size={rows}"]
    sets += [f"train.steps={steps}", "train.clip={kind='none'}", "optim.learning_rate=1e-5"]
    sets += ["optim.schedule={kind='constant'}", *own]
    return load_recipe(ROOT / "recipes" / f"{recipe}.toml", sets)


def train_side(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Train our side in this process; its speed and memory."""
    import mlx.core as mx
    import numpy as np
    from mlx.utils import tree_flatten

    from mlx_transformers.assembly.parallel import parallel_rows
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    steps = args.steps + WARMUP
    recipe = recipe_of(name, args.length, steps, args.rows)
    vocab = recipe.data.tokenizer.vocab_size
    mx.random.seed(0)
    model = recipe.model.build(vocab)
    optimizer = recipe.optim.build(model, steps)
    state, parallel = TrainState(model, optimizer, recipe.train), parallel_rows(recipe)
    step = Step(state, recipe.objective.build(), recipe.train, parallel=parallel)
    shape = (steps, args.rows, args.length + 1)
    rows = np.random.default_rng(0).integers(0, vocab, shape, np.int32)
    marks, found = run_ours(step, rows, recipe.train)
    size = sum(array.size for _, array in tree_flatten(model.parameters()))
    return speed(args.steps * args.rows * args.length, *marks) | found | {"parameters": size}


def measured(names: list[str], args: argparse.Namespace) -> Found:
    """The figures of all sides, in turns."""
    shared = [f"--{name}={vars(args)[name]}" for name in ("length", "rows", "steps")]
    commands = {name: [sys.executable, __file__, *shared, "--side", name] for name in names}
    if args.torch_python:
        for name in (name for name in names if name in PEERS):
            peer = [args.torch_python, str(ROOT / "tools" / "peer_mamba.py"), *shared]
            peer += ["--threads", str(args.threads)]
            commands[f"transformers {name}"] = [*peer, "--kind", name, *sizes(name, args.length)]
    found: Found = {name: [] for name in commands}
    for number in range(args.rounds):
        for name, command in commands.items():
            env = os.environ | {"OPENBLAS_NUM_THREADS": str(args.threads)}
            if command[0] == args.torch_python:
                env.pop("PYTHONPATH", None)
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                sys.exit(done.stderr)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            pace = found[name][-1]["tokens_per_s"]
            print(f"round {number + 1}  {name:20} {pace:8,.0f} tokens/s", file=sys.stderr)
    return found


def sizes(name: str, length: int) -> list[str]:
    """The sizes of one of our sides as options of `peer_mamba.py`."""
    recipe = recipe_of(name, length)
    model, mixer = recipe.model, recipe.model.block.mixer
    given = {"dim": model.dim, "layers": model.n_layers, "state-dim": mixer.state_dim}
    given |= {"vocab": recipe.data.tokenizer.vocab_size}
    if name == "mamba2":
        given["head-dim"] = mixer.head_dim
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def table(found: Found) -> None:
    """A line for each side: parameters, speed, and its ratios to the parent and to its peer."""
    print("| side | million weights | tokens/s | by attention's | by transformers' |")
    print("|---|---:|---:|---:|---:|")
    for name, results in found.items():
        pace = statistics.median(result["tokens_per_s"] for result in results)
        weights = results[0]["parameters"] / 1e6
        beside = [spread(results, found[PARENT]) if name in SIDES and name != PARENT else ""]
        peer = found.get(f"transformers {name}")
        beside.append(spread(results, peer) if peer else "")
        print(f"| {name} | {weights:.2f} | {pace:,.0f} | {' | '.join(beside)} |")


def spread(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    """Median and quartiles of ours / theirs, round by round, and the median by the cores' clock."""
    wall, cores = (
        [a[name] / b[name] for a, b in zip(ours, theirs, strict=True)]
        for name in ("tokens_per_s", "tokens_per_cpu_s")
    )
    apart = ""
    if len(wall) > 1:
        low, _, high = statistics.quantiles(wall, n=4, method="inclusive")
        apart = f", {low:.2f} to {high:.2f}"
    return f"{statistics.median(wall):.2f}{apart} ({statistics.median(cores):.2f})"


def decode(names: list[str], tokens: int) -> None:
    """Print the speed of decoding along a row, and the bytes of the state."""
    print("| side | tokens/s, first | last | apart | state at 1k tokens, bytes | at 16k |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in names:
        paces, states = decoded(name, tokens)
        apart = max(paces) / min(paces) - 1
        bytes_of = " | ".join(f"{n:,}" for n in states)
        print(f"| {name} | {paces[0]:,.0f} | {paces[-1]:,.0f} | {apart:.1%} | {bytes_of} |")


def decoded(name: str, tokens: int) -> tuple[list[float], list[int]]:
    """Tokens/s of each window of a row, and the bytes of its state at 1,024 and 16,384 tokens."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    recipe = recipe_of(name, max(tokens, 16384))
    model = recipe.model.build(recipe.data.tokenizer.vocab_size)
    mx.eval(model.parameters())
    sizes = [
        sum(array.nbytes for _, array in tree_flatten(model.init_state(1, n)))
        for n in (1024, 16384)
    ]

    def step(token: mx.array, state: Any) -> Any:
        logits, state = model.step(token, state)
        return mx.argmax(logits[:, -1:], axis=-1), state

    compiled: Any = mx.compile(step)
    token, state = mx.zeros((1, 1), mx.int32), model.init_state(1, tokens)
    seconds = []
    for _ in range(tokens):
        started = time.perf_counter()
        token, state = compiled(token, state)
        mx.eval(token, state)
        seconds.append(time.perf_counter() - started)
    windows = [seconds[at : at + WINDOW] for at in range(0, tokens, WINDOW)]
    return [1 / statistics.median(window) for window in windows], sizes


if __name__ == "__main__":
    main()
