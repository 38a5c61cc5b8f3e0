"""The speed of two processes against one, on the same model and global batch.

    python tools/bench_parallel.py [--dim 256 ...] [--rounds 3] [--set train.shard_optimizer=true]
    python tools/bench_parallel.py --share layers

Three sides, in turns, so that a machine that slows down slows all: one process with one BLAS
thread, one process with a BLAS thread for each of `--ranks` cores, and `--ranks` processes with one
BLAS thread each, over the ring on the loopback. They share the batch, or with `--share layers`
every layer (`train.tensor_parallel`). Printed: tokens/s of every round, and the ratios of the
medians, and of the best rounds, which say more on a machine with other work. Needs as many idle
cores as ranks.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_sides import SIZES, add_sizes, run_ours, settings, speed

DEADLINE = 900.0
"""Seconds after which a side counts as hung."""


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps(measure(args)))
        return
    sides = {
        "1 process, 1 thread": (1, 1),
        f"1 process, {args.ranks} threads": (1, args.ranks),
        f"{args.ranks} processes, 1 thread each": (args.ranks, 1),
    }
    if args.single:
        del sides[f"1 process, {args.ranks} threads"]
    found: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, (world, threads) in sides.items():
            result = run(world, threads, sys.argv[1:])
            found[side].append(result["tokens_per_s"])
            print(
                f"round {number + 1}  {side:<28} {result['tokens_per_s']:8,.0f} tokens/s, "
                f"exchange {result['exchange_ms']:5.0f} ms of {result['step_ms']:6.0f} ms, "
                f"loss {result['loss']:.5f}, on rank 0 {result['optimizer_mib']:.1f} MiB of "
                f"optimizer state, {result['rank0_peak_mib']:.0f} MiB at the peak",
                flush=True,
            )
    for name, choose in (("medians", statistics.median), ("best rounds", max)):
        *others, (several, speed) = ((side, choose(values)) for side, values in found.items())
        ratios = "; ".join(f"{speed / other:.2f} of {side}" for side, other in others)
        print(f"{name:<12} {several}: {ratios}")


def parse() -> argparse.Namespace:
    """Sizes of the model and of the global batch; the defaults make 5.5M parameters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_sizes(parser, {**SIZES, "ranks": 2})
    parser.add_argument("--share", choices=("rows", "layers"), default="rows")
    single = "leave out the side of several threads, which other work slows down most"
    parser.add_argument("--single", action="store_true", help=single)
    parser.add_argument("--set", action="append", default=[], help="another setting")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(world: int, threads: int, sizes: list[str]) -> dict[str, float]:
    """One side, in processes of its own; what rank 0 measured, and the memory of all."""
    words = [sys.executable, __file__, "--side", *sizes]
    env = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if world > 1:
            hosts = Path(folder) / "hosts.json"
            hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(world)]))
            env["MLX_HOSTFILE"] = str(hosts)
        started = []
        for rank in range(world):
            if world > 1:
                env["MLX_RANK"] = str(rank)
            process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
            stack.callback(process.kill)
            started.append(process)
        outs = [process.communicate(timeout=DEADLINE)[0] for process in started]
        if any(process.returncode for process in started):
            sys.exit("A process failed; its message is above.")
    found = [json.loads(out.splitlines()[-1]) for out in outs]
    both = {name: sum(f[name] for f in found) for name in ("peak_mib", "rss_mib")}
    both["tokens_per_cpu_s"] = statistics.harmonic_mean(f["tokens_per_cpu_s"] for f in found)
    return found[0] | {"rank0_peak_mib": found[0]["peak_mib"]} | both


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has now."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def measure(args: argparse.Namespace) -> dict[str, float]:
    """The trainer's loop on this rank's share of random rows, and a moment with a clock."""
    import numpy as np
    from mlx.utils import tree_flatten

    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.distributed.launch import join_job
    from mlx_transformers.distributed.processes import tensor_parallel_ranks

    with join_job() as everyone:
        shared = everyone.processes if args.share == "layers" else 1
        ranks = tensor_parallel_ranks(everyone, shared)
        recipe = load_recipe("recipes/llama_tiny.toml", settings(args, shared))
        step = build_step(recipe, args.vocab, ranks)
        shape = (recipe.train.steps, ranks.world, args.batch // ranks.world, args.length + 1)
        rows = np.random.default_rng(0).integers(0, args.vocab, shape, np.int32)

        marks, found = run_ours(step, rows[:, ranks.rank], recipe.train)
        held = sum(leaf.nbytes for _, leaf in tree_flatten(step.train_state.optimizer.state))
        exchange = exchange_seconds(ranks, step.model.trainable_parameters())
    tokens = args.steps * args.batch * args.length
    return speed(tokens, *marks, share=1 / everyone.processes) | {
        "step_ms": 1e3 * (marks[1][0] - marks[0][0]) / args.steps,
        "exchange_ms": 1e3 * exchange,
        "optimizer_mib": held / 2**20,
        **found,
    }


def build_step(recipe: Any, vocab_size: int, ranks: Any) -> Any:
    """The compiled step of a recipe's model, its weights the same on every rank."""
    import mlx.core as mx

    from mlx_transformers.assembly.build import build_optimizer, tensor_parallelism
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    mx.random.seed(0)
    model = recipe.model.build(vocab_size)
    optimizer = build_optimizer(recipe, model, ranks)
    shards = tensor_parallelism(recipe, ranks)
    state = TrainState(model, optimizer, recipe.train, ranks, tensor_parallel=shards)
    step = Step(state, recipe.objective.build(), recipe.train)
    state.broadcast()
    return step


def exchange_seconds(ranks: Any, tree: Any) -> float:
    """The median time of one exchange of arrays like the gradients."""
    import mlx.core as mx

    times = []
    for _ in range(5):
        ranks.gather(None)
        started = time.perf_counter()
        mx.eval(ranks.all_reduce(tree))
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
