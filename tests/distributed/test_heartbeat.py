"""A rank that is stopped, or gone, ends the others with a sentence that names it."""

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import forked
import pytest
from train import tiny

from . import group

LOOP = """
import sys, time
import mlx_transformers, mlx.core as mx
from mlx_transformers.distributed.launch import join_job
print("joining", file=sys.stderr, flush=True)
with join_job() as ranks:
    for step in range(10**6):
        mx.eval(ranks.all_reduce([mx.ones(4)]))
        print(step, flush=True)
        time.sleep(0.05)
"""
"""Ranks that exchange without end."""


class Job:
    """Ranks of a job that are still running."""

    def __init__(
        self, folder: Path, stack: ExitStack, world: int, started: int | None = None, **env: str
    ) -> None:
        base = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **env}
        base["PYTHONPATH"] = os.pathsep.join([str(tiny.ROOT), base.get("PYTHONPATH", "")])
        base["MLX_HOSTFILE"] = str(group.hostfile(folder, world))
        ranks = range(world if started is None else started)
        self.files = [(folder / f"{rank}.out", folder / f"{rank}.err") for rank in ranks]
        self.ranks = []
        for rank, pair in enumerate(self.files):
            for path in pair:
                path.touch()
            own = base | {"MLX_RANK": str(rank)}
            process = forked.Popen(
                ["-c", LOOP], cwd=folder, env=own, stdout=pair[0], stderr=pair[1]
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            self.ranks.append(process)

    def wait_for_steps(self) -> None:
        """Until every rank has done some."""
        deadline = time.monotonic() + 60
        while not all(len(out.read_text().split()) > 3 for out, _ in self.files):
            assert time.monotonic() < deadline, [err.read_text() for _, err in self.files]
            time.sleep(0.05)

    def error(self, rank: int) -> str:
        return self.files[rank][1].read_text()


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_is_named_by_the_others(tmp_path: Path, stopped: int) -> None:
    with ExitStack() as stack:
        job = Job(tmp_path, stack, 2, MLXT_HEARTBEAT_SECONDS="3")
        job.wait_for_steps()
        os.kill(job.ranks[stopped].pid, signal.SIGSTOP)
        assert job.ranks[1 - stopped].wait(timeout=30) != 0
        found = job.error(1 - stopped)
        assert f"error: Rank {stopped} is stopped or can't be reached: nothing was heard" in found
        assert "--resume auto" in found
        os.kill(job.ranks[stopped].pid, signal.SIGCONT)
        assert job.ranks[stopped].wait(timeout=30) != 0
        assert f"Rank {1 - stopped}" in job.error(stopped) or "has ended" in job.error(stopped)


def test_a_signal_ends_a_rank_whose_peer_is_stopped_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        job = Job(tmp_path, stack, 2, MLXT_HEARTBEAT_SECONDS="600")
        job.wait_for_steps()
        os.kill(job.ranks[1].pid, signal.SIGSTOP)
        time.sleep(0.5)
        began = time.monotonic()
        job.ranks[0].send_signal(signal.SIGTERM)
        assert job.ranks[0].wait(timeout=30) != 0
        assert time.monotonic() - began < 30


def test_a_signal_ends_a_rank_that_waits_for_the_others_to_start(tmp_path: Path) -> None:
    with ExitStack() as stack:
        job = Job(tmp_path, stack, 2, started=1)
        while "joining" not in job.error(0):
            time.sleep(0.05)
        time.sleep(1.0)
        job.ranks[0].send_signal(signal.SIGTERM)
        assert job.ranks[0].wait(timeout=30) == -signal.SIGTERM


def test_an_odd_limit_is_a_sentence(tmp_path: Path) -> None:
    code = "from mlx_transformers.distributed.launch import join_job\nwith join_job(): pass"
    env = os.environ | {"MLXT_HEARTBEAT_SECONDS": "odd"}
    done = forked.run(["-c", code], cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert "MLXT_HEARTBEAT_SECONDS is 'odd', which is not a number of seconds" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "5"])
def test_a_job_that_ends_by_itself_ends_without_a_word(tmp_path: Path, seconds: str) -> None:
    code = (
        "import mlx_transformers, mlx.core as mx, json\n"
        "from mlx_transformers.distributed.launch import join_job\n"
        "with join_job() as ranks:\n"
        "    print(json.dumps(ranks.gather(ranks.rank)))\n"
    )
    ranks = group.launch(tmp_path, [["-c", code]] * 3, MLXT_HEARTBEAT_SECONDS=seconds)
    assert [(rank.code, rank.err) for rank in ranks] == [(0, "")] * 3
    assert json.loads(ranks[2].out) == [0, 1, 2]
