"""Trains a model whose optimizer state alone exceeds a memory limit, and compares it bit by bit.

    python tools/beyond_memory.py [RECIPE] [--limit-mib N] [--set KEY=VALUE ...]

The same run three times, each in a process of its own: its optimizer state in memory, without a
limit; in memory, with the limit; in a file (`train.offload_optimizer`), with the limit. The limit
(`RLIMIT_DATA`, Linux alone) is on what the process allocates beyond what it holds once its
libraries are loaded; the default is 0.95 of the optimizer state. Prints how each run ended, its
peaks and its speed, and whether the checkpoints of the first and the third are equal.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlx_transformers.assembly.job import job
from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.tree import size_bytes

MIB = 2**20
SETS = (
    *("model.dim=512", "model.n_layers=12", "model.block.ffn.hidden_dim=1376"),
    *("train.steps=6", "train.batch_size=2", "train.seq_len=32", "train.cache_limit_gib=0"),
    *("eval.every=6", "eval.batches=1", "eval.batch_size=2", "checkpoint.every=6", "log.every=1"),
    *("optim.schedule.warmup=2", "optim.amsgrad=true"),
)
"""39M parameters with three moments each, and few tokens: the state is the largest part by far."""

PAGED = "train.offload_optimizer=true"

CHILD = """
import os, resource, sys
import mlx_transformers, mlx.core as mx, numpy
from mlx_transformers.cli.main import main

def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024

# A run with its state in a file has MLX walk graphs depth first, which MLX looks up only once.
os.environ.pop("MLX_BFS_MAX_WIDTH", None)
mx.eval(mx.random.normal((512, 512)) @ mx.ones((512, 512)))
limit = int(sys.argv.pop(1))
held, resident = status("VmData"), status("VmRSS")
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (held + limit, held + limit))
try:
    main()
except SystemExit as done:
    print(f"grew {status('VmHWM') - resident}", flush=True)
    raise
"""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, the most that its resident memory grew, MLX's peak, and the
    median time of a step, None where it ended early; and the last line that it wrote there."""

    code: int
    grew: int | None
    peak: float | None
    step_s: float | None
    error: str = ""


def main() -> None:
    """Run the three runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="llama_tiny")
    parser.add_argument("--limit-mib", type=float)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("This needs Linux: its limit of memory (RLIMIT_DATA), and /proc to measure it.")
    given = {each.partition("=")[0] for each in args.set}
    sets = [*(each for each in SETS if each.partition("=")[0] not in given), *args.set]
    loaded = load_recipe(args.recipe, sets)
    model = draft_model(loaded)
    state = size_bytes(job(loaded, model).state)
    limit = round(args.limit_mib * MIB) if args.limit_mib else round(0.95 * state)
    print(f"weights {size_bytes(model.parameters()) / MIB:,.0f} MiB, optimizer state ", end="")
    print(f"{state / MIB:,.0f} MiB, limit {limit / MIB:,.0f} MiB beside the program", flush=True)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        root = Path(folder)
        whole = show("in memory, no limit", run(args.recipe, sets, root, "memory", 0))
        show("in memory, limited", run(args.recipe, sets, root, "limited", limit))
        last = show("in a file, limited", run(args.recipe, [*sets, PAGED], root, "file", limit))
        if last.code:
            sys.exit("The run with its state in a file did not finish.")
        a, b = (arrays(root / name) for name in ("memory", "file"))
    print(f"checkpoints equal, bit by bit: {'yes' if a == b else 'NO'}")
    if whole.step_s and last.step_s and whole.peak and last.peak and whole.grew and last.grew:
        print(f"peak of MLX: {last.peak / whole.peak:.2f} of that in memory; ", end="")
        print(f"growth of the process: {last.grew / whole.grew:.2f}; ", end="")
        print(f"time of a step: {last.step_s / whole.step_s:.2f} times")


def run(recipe: str, sets: list[str], root: Path, name: str, limit: int) -> Outcome:
    """Train in another process."""
    words = ["train", recipe, "--name", name, "--runs", str(root)]
    words += [word for each in sets for word in ("--set", each)]
    # In parts, a batch's gradients would differ in their last digits; from a file it is whole.
    whole = {} if PAGED in sets else {"MLXT_CPU_STREAMS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(limit), *words],
        env={**os.environ, **whole, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    log = root / name / "log.jsonl"
    if done.returncode or not log.is_file():
        last = done.stderr.strip().rpartition("\n")[2]
        return Outcome(done.returncode or 1, None, None, None, last)
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    speeds = [row["tokens_per_s"] for row in rows if "tokens_per_s" in row][2:]
    tokens = next(row["tokens"] / row["step"] for row in rows)
    peak = max(row["peak_gib"] for row in rows if "peak_gib" in row) * 2**30
    grew = int(done.stdout.rpartition("grew ")[2].split()[0])
    return Outcome(0, grew, peak, tokens / statistics.median(speeds))


def show(name: str, found: Outcome) -> Outcome:
    """Print a line of the table."""
    if found.peak is None or found.grew is None or found.step_s is None:
        print(f"{name:22}ended with code {found.code}: {found.error or 'no error'}", flush=True)
    else:
        print(
            f"{name:22}finished; MLX peak {found.peak / MIB:,.0f} MiB, process grew by "
            f"{found.grew / MIB:,.0f} MiB, {found.step_s:.2f} s a step",
            flush=True,
        )
    return found


def arrays(run: Path) -> dict[str, bytes]:
    """The files of arrays of a run's last checkpoint."""
    last = run / "checkpoints" / (run / "checkpoints" / "last").read_text("utf-8").strip()
    return {file.name: file.read_bytes() for file in last.glob("*.safetensors")}


if __name__ == "__main__":
    main()
