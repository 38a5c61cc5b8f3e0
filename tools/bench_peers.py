"""Our training step beside mlx-lm's and PyTorch's, in one run: tokens/s and memory, as ratios.

    pip install 'mlxt[mlx-lm]'
    python tools/bench_peers.py [--torch-python PATH] [--rounds 5] [--threads 2] [--only SETTING]

The same LLaMA, rows, dtype (float32) and optimizer (AdamW) everywhere. Every side is a process of
its own, and they take turns, so that a machine that slows down slows all; a ratio is taken within a
round, and its median and quartiles over the rounds are printed. MLX's sides have the same OpenBLAS
and kernel flags in front of them (bench_step.py); PyTorch, in the interpreter that is named, brings
its own. `mlxt` is one process with as many CPU streams as it chooses, `mlxt, 1 stream` has one,
whose products have all threads (MLXT_CPU_STREAMS=1). `2 processes` are data-parallel over the
loopback, one thread each (bench_parallel.py).

Tokens are counted per second of wall-clock time, and per second that the cores computed, which
other work on the machine hardly disturbs. The latter compares sides of one thread each
(`--threads 1`): a thread that waits for another may spin.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import bench_parallel

TOOLS = Path(__file__).parent
SMALL = "--dim 256 --layers 6 --heads 8 --kv-heads 4 --hidden-dim 704"
LARGE = "--dim 512 --layers 8 --heads 8 --kv-heads 4 --hidden-dim 1376"
SETTINGS = {
    "5.5M, 8 x 256": f"{SMALL} --batch 8 --length 256",
    "5.5M, 2 x 1024": f"{SMALL} --batch 2 --length 1024",
    "25M, 8 x 256": f"{LARGE} --batch 8 --length 256",
    "25M, 2 x 1024": f"{LARGE} --batch 2 --length 1024",
}
FIGURES = ("tokens_per_s", "tokens_per_cpu_s", "peak_mib", "rss_mib")
ONE_STREAM = "mlxt, 1 stream"
OURS = ("mlxt", ONE_STREAM, "mlxt, 2 processes")
Found = dict[str, list[dict[str, float]]]


def main() -> None:
    args = parse()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"{args.threads} BLAS threads, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds")
    for name, words in SETTINGS.items():
        if not args.only or name in args.only:
            sizes = [*words.split(), "--steps", str(args.steps)]
            table(name, measure(name, sizes, args))


def parse() -> argparse.Namespace:
    """Parse the settings, the number of repeats and the path of PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="an interpreter that has torch; none leaves it out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", action="append", choices=SETTINGS, help="a setting; may repeat")
    return parser.parse_args()


def measure(setting: str, sizes: list[str], args: argparse.Namespace) -> Found:
    """All sides of a setting, in turns."""
    step = [sys.executable, str(TOOLS / "bench_step.py"), *sizes, "--side"]
    sides: dict[str, list[str] | None] = {
        "mlxt": [*step, "ours"],
        "mlx-lm": [*step, "theirs"],
        ONE_STREAM: [*step, "ours"],
        "mlxt, 2 processes": None,
    }
    if args.torch_python:
        torch = [args.torch_python, str(TOOLS / "peer_torch.py"), *sizes]
        torch += ["--threads", str(args.threads)]
        sides |= {"torch": torch, "torch.compile": [*torch, "--compile"]}
    found: Found = {side: [] for side in sides}
    for number in range(args.rounds):
        for side, command in sides.items():
            if command is None:
                result = bench_parallel.run(2, 1, sizes)
            else:
                shared = {"MLXT_CPU_STREAMS": "1" if side == ONE_STREAM else "auto"}
                result = alone(command, args.threads, **shared)
            found[side].append(result)
            print(
                f"{setting}  round {number + 1}  {side:<18} {result['tokens_per_s']:7,.0f} tokens/s"
                f"  {result['tokens_per_cpu_s']:7,.0f} tokens/CPU s"
                f"  RSS {result['rss_mib']:6,.0f} MiB  loss {result['loss']:.4f}",
                file=sys.stderr,
                flush=True,
            )
    return found


def alone(command: list[str], threads: int, **variables: str) -> dict[str, float]:
    """The last figures that a side's process printed."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)} | variables
    if "peer_torch.py" in command[1]:
        env.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def table(setting: str, found: Found) -> None:
    """One row a side, and ours by each peer with quartiles."""
    print(f"\n| {setting} | tokens/s | tokens/CPU s | peak MiB (MLX's counter) | RSS MiB |")
    print("|---|---:|---:|---:|---:|")
    for side, results in found.items():
        print(f"| {side} | {' | '.join(middle(results, figure) for figure in FIGURES)} |")
    print(f"\n| {setting}, ours / peer | tokens/s | tokens/CPU s | peak | RSS |")
    print("|---|---:|---:|---:|---:|")
    for ours in OURS:
        for peer in found:
            if peer not in OURS:
                cells = " | ".join(spread(found, ours, peer, figure) for figure in FIGURES)
                print(f"| {ours} / {peer} | {cells} |")


def middle(results: list[dict[str, float]], name: str) -> str:
    """The median of a figure, where the side has it."""
    if name not in results[0]:
        return ""
    return f"{statistics.median(result[name] for result in results):,.0f}"


def spread(found: Found, ours: str, peer: str, name: str) -> str:
    """Median and quartiles of ours / theirs, round by round."""
    pairs = list(zip(found[ours], found[peer], strict=True))
    if any(name not in result for pair in pairs for result in pair):
        return ""
    ratios = [a[name] / b[name] for a, b in pairs]
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, mid, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{mid:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
