"""Processes that are ranks of one job, each in a folder of its own, and never longer than told."""

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import forked
import numpy as np
from train import tiny

DEADLINE = 150.0
"""Seconds after which a job counts as hung."""


@dataclass
class Rank:
    """How one process of a job ended."""

    code: int
    out: str
    err: str
    seconds: float
    """After the first of them ended."""


def hostfile(folder: Path, world: int) -> Path:
    """Free ports of the loopback, one a rank."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(world)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in held]
    path = folder / "hosts.json"
    path.write_text(json.dumps(hosts))
    return path


def home(folder: Path, rank: int) -> Path:
    """Where a rank works."""
    path = folder / f"rank{rank}"
    path.mkdir(exist_ok=True)
    return path


def launch(
    folder: Path, programs: Sequence[Sequence[str] | None], world: int | None = None, **env: str
) -> list[Rank]:
    """Run `python WORDS` for each rank; None leaves a rank out. All end by themselves, or it fails.

    Raises:
        AssertionError: some process was still there at the deadline; it is killed.
    """
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **env}
    env["PYTHONPATH"] = os.pathsep.join([str(tiny.ROOT), env.get("PYTHONPATH", "")])
    env["MLX_HOSTFILE"] = str(hostfile(folder, world or len(programs)))
    # Compiled kernels are kept where the cache was when this process began.
    env = {key: value for key, value in env.items() if key != "MLXT_CACHE"}
    env |= {"MLXT_CACHE": tiny.CACHE} if tiny.CACHE else {}
    processes: list[forked.Popen] = []
    ends: dict[int, float] = {}
    files = [(folder / f"{rank}.out", folder / f"{rank}.err") for rank in range(len(programs))]
    with ExitStack() as stack:
        for rank, words in enumerate(programs):
            if words is None:
                continue
            out, err = files[rank]
            own = {**env, "MLX_RANK": str(rank)}
            process = forked.Popen(words, cwd=home(folder, rank), env=own, stdout=out, stderr=err)
            stack.callback(process.kill)
            processes.append(process)
        began = time.monotonic()
        while len(ends) < len(processes):
            for number, process in enumerate(processes):
                if process.poll() is not None:
                    ends.setdefault(number, time.monotonic())
            hung = time.monotonic() - began > DEADLINE
            assert not hung, [path.read_text()[-2000:] for pair in files for path in pair]
            time.sleep(0.02)
    there = [pair for pair, words in zip(files, programs, strict=True) if words is not None]
    return [
        Rank(process.returncode, out.read_text(), err.read_text(), ends[n] - min(ends.values()))
        for n, (process, (out, err)) in enumerate(zip(processes, there, strict=True))
    ]


def mlxt(*words: str, at: str = "", call: int = 0, name: str = "SIGKILL") -> list[str]:
    """What one rank runs: `mlxt WORDS`; with `at`, it sends itself a signal as in `tiny.mlxt`."""
    cache = os.environ["MLXT_CACHE"]
    return ["-c", tiny.MLXT, cache, f"{at}:{call}:{name}", *words]


def train(folder: Path, *sets: str, name: str = "two", world: int = 2) -> list[Rank]:
    """Train the tiny recipe with `world` ranks; a run of that name is continued."""
    words = tiny.words(folder, *sets, name=name)
    return launch(folder, [mlxt(*words)] * world)


def run(folder: Path, name: str = "two") -> Path:
    """The folder of a run that rank 0 kept."""
    return folder / "rank0" / "runs" / name


def series(path: Path, *keys: str) -> np.ndarray:
    """Some numbers of every record that has the first of them."""
    rows = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    found = [[row[key] for key in ("step", *keys)] for row in rows if keys[0] in row]
    assert found
    return np.array(found)
