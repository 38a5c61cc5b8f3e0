"""`mlxt train --supervise`: what restarts a run, what does not, and that it ends."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest

from mlx_transformers.cli.failures import no_memory, refused
from mlx_transformers.core.cache import cache_folder
from mlx_transformers.core.errors import RunError
from mlx_transformers.verbs import supervise
from mlx_transformers.verbs.supervise import Command, Status, ended_by, smaller

from .conftest import Mlxt

ROOT = Path(__file__).parents[2]

DYING = """
import os, signal, sys
import mlx_transformers, mlx.core
from mlx_transformers.trainer import loop
plain, batches = loop.arrays, [0]

def arrays(batch):
    batches[0] += 1
    if len(batch["tokens"]) > int(os.environ["FATAL_ROWS"]) and batches[0] == 8:
        if os.environ["FATAL"] == "exit":
            os._exit(1)
        os.kill(os.getpid(), signal.Signals[os.environ["FATAL"]])
    return plain(batch)

for module in list(sys.modules.values()):  # those that have imported it
    if vars(module).get("arrays") is plain:
        module.arrays = arrays
"""
"""Imported by every process of a test: microbatches of more rows than that are deadly."""


KERNELS = cache_folder() / "jit"


@pytest.fixture(autouse=True)
def kernels(home: Path) -> None:
    """Compiled once, and not by every process of every test."""
    if KERNELS.is_dir():
        (home / "cache").mkdir()
        (home / "cache" / "jit").symlink_to(KERNELS)


class Attempt(forked.Popen):
    """An attempt of a supervised run in a forked process; its output is printed at its end."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.streams = [Path(f"attempt.{name}") for name in ("out", "err")]
        out, err = (path.resolve() for path in self.streams)
        super().__init__(command[1:], cwd=Path.cwd(), env=env, stdout=out, stderr=err)

    def wait(self, timeout: float = 300.0) -> int:
        code = super().wait(timeout)
        for path, stream in zip(self.streams, (sys.stdout, sys.stderr), strict=True):
            stream.write(path.read_text())
        return code


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts without a second of imports each."""
    monkeypatch.setattr(supervise, "subprocess", SimpleNamespace(Popen=Attempt))


@pytest.fixture
def dying(home: Path, attempts: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose runs die at their eighth batch; returns where the recipe is."""
    (home / "dying.py").write_text(DYING)
    monkeypatch.setattr(supervise, "RUN", "import dying; " + supervise.RUN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(home)]))
    monkeypatch.setenv("FATAL", "SIGKILL")
    return home


def log(home: Path, name: str) -> list[dict]:
    lines = (home / "runs" / name / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


SETS = ("--set", "checkpoint.every=3", "--set", "log.every=1", "--steps", "12")


def test_a_killed_run_goes_on_with_half_the_rows_at_once_and_learns_the_same(
    mlxt: Mlxt, dying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "tiny", *SETS, "--batch-size", "4")
    assert mlxt(*words, "--name", "whole").code == 0
    monkeypatch.setenv("FATAL_ROWS", "2")
    outcome = mlxt(*words, "--name", "halved", "--supervise")
    assert outcome.code == 0, outcome.err
    assert "The system killed the run (SIGKILL)" in outcome.out
    assert "from step-000006 with 2 microbatches of 2 rows instead of 1 of 4" in outcome.out
    whole, halved = (
        [record for record in log(dying, name) if "train_loss" in record]
        for name in ("whole", "halved")
    )
    assert [record["tokens"] for record in halved] == [64 * (i + 1) for i in range(12)]
    losses = [[record["train_loss"] for record in records] for records in (whole, halved)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_with_one_row_left_it_gives_up_in_a_sentence(
    mlxt: Mlxt, dying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FATAL_ROWS", "0")
    monkeypatch.setenv("FATAL", "SIGABRT")
    outcome = mlxt("train", "tiny", *SETS, "--name", "a", "--supervise")
    assert outcome.code == 128 + 6
    assert outcome.out.count("It goes on") == 1
    assert "with one row at a time, so there is nothing left to halve" in outcome.out


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_run_that_was_asked_to_stop_stops(
    mlxt: Mlxt, dying: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FATAL_ROWS", "0")
    monkeypatch.setenv("FATAL", name)
    outcome = mlxt("train", "tiny", *SETS, "--name", "a", "--supervise")
    assert outcome.code == {"SIGINT": 130, "SIGTERM": 143}[name]
    assert "It goes on" not in outcome.out
    assert f"stopped by {name}" in outcome.out


def test_a_users_error_is_told_once(mlxt: Mlxt, attempts: None) -> None:
    outcome = mlxt("train", "tiny", "--set", "train.stepz=3", "--supervise")
    assert outcome.code == 1
    assert outcome.err.count("error: ") == 1
    assert "goes on" not in outcome.out


def test_a_process_of_a_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_RANK", "0")
    with pytest.raises(RunError, match="one of several"):
        supervise.supervise(Command("tiny"))


def test_a_signal_to_the_one_that_watches_is_passed_on(home: Path) -> None:
    """From a program, without a terminal: the run saves and stops, and both end."""
    words = ["train", "tiny", "--steps", "100000", "--name", "a", "--supervise"]
    process = subprocess.Popen(
        [sys.executable, "-c", supervise.RUN, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (home / "runs/a/log.jsonl").is_file() or not log(home, "a"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(2)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "stopped by SIGINT" in out
    assert "goes on" not in out


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
def test_a_limit_that_the_system_enforces_is_met_by_smaller_microbatches(home: Path) -> None:
    """256 rows of 128 tokens take about 450 MiB of arrays; 340 MiB beside the program are there."""
    draw = random.Random(0)
    words = ("the", "king", "of", "love", "and", "sorrow", "what", "light")
    (home / "text.txt").write_text(" ".join(draw.choice(words) for _ in range(40_000)))
    sets = ["train.batch_size=256", "train.seq_len=128", "model.max_seq_len=128", "train.steps=2"]
    sets += ["model.dim=64", "model.n_layers=2", "eval.batch_size=4", "eval.batches=1"]
    sets += ["train.cache_limit_gib=0.05"]  # half of the rows fit at once where little is kept
    command = ["train", "tiny", "--name", "a", "--supervise"]
    command += [word for each in sets for word in ("--set", each)]
    limited = (
        "import resource, subprocess, sys\n"
        "import mlx_transformers, mlx.core as mx\n"
        "mx.eval(mx.ones((512, 512)) @ mx.ones((512, 512)))\n"
        "held = next(l for l in open('/proc/self/status') if l.startswith('VmData'))\n"
        "limit = int(held.split()[1]) * 1024 + 340 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {supervise.RUN!r}, *sys.argv[1:]])"
        ".returncode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=480,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "a step still learns from 256 rows" in done.stdout
    assert log(home, "a")[-1]["tokens"] == 2 * 256 * 128


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [
        ("raise RuntimeError('no thread')", 1, "RuntimeError: no thread"),
        ("raise SystemExit(71)", 71, ""),
    ],
)
def test_a_watched_run_that_fails_waits_for_no_thread(ends: str, code: int, told: str) -> None:
    """Python itself would wait for ever for the one that is begun here."""
    program = (
        "import threading\n"
        "from mlx_transformers.verbs.supervise import run_supervised\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"def run(): {ends}\n"
        "run_supervised(run)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code
    assert told in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
        RuntimeError("[malloc] Unable to allocate 64 bytes."),
    ],
    ids=str,
)
def test_whatever_says_that_memory_ended_is_told_so(error: Exception) -> None:
    assert no_memory(error)
    assert "There is no memory left" in str(refused(error))


@pytest.mark.parametrize(("rows", "half"), [(8, 4), (6, 3), (3, 1), (9, 3), (2, 1), (7, 1)])
def test_half_is_the_largest_divisor_up_to_it(rows: int, half: int) -> None:
    assert smaller(rows) == half


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143, -2, -15])
def test_other_ends_are_no_reason_to_begin_again(code: int) -> None:
    assert ended_by(code) is None


@pytest.mark.parametrize("code", [1, 127])
def test_an_end_below_python_is_one_of_memory(code: int) -> None:
    assert "A library ended the run" in str(ended_by(code, silent=True))


def test_a_run_that_a_library_ends_goes_on(
    mlxt: Mlxt, dying: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenBLAS does, without a word of Python's."""
    monkeypatch.setenv("FATAL_ROWS", "1")
    monkeypatch.setenv("FATAL", "exit")
    outcome = mlxt("train", "tiny", *SETS, "--name", "a", "--supervise")
    assert outcome.code == 0, outcome.err
    assert "A library ended the run (exit code 1)" in outcome.out
    assert outcome.out.count("It goes on") == 1


def test_a_named_checkpoint_is_gone_on_from_until_there_is_a_newer_one(tmp_path: Path) -> None:
    run = tmp_path / "a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.toml").write_text("")
    asked = Command("tiny", ("train.microbatch=8", "a=1"), None, f"{run}/checkpoints/step-000003")
    told = Status(8, 1, str(run), "step-000003")
    for last, resume in (("step-000003", asked.resume), ("step-000006", str(run))):
        (run / "checkpoints" / "last").write_text(f"{last}\n")
        again = asked.restarted(told, 4)
        assert again.resume == resume
        assert again.sets == ("a=1", "train.microbatch=4")
