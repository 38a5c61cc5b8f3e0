"""A server of `mlxt` commands, and how many attacks are made: a few, or with `make soak` all."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small import recipe

SERVER = Path(__file__).with_name("server.py")

RECIPE = recipe(dim=8, hidden_dim=8, steps=4, seq_len=8, eval_every=2, save_every=1)
TEXT = "to be or not to be that is the question whether tis nobler in the mind to suffer. " * 12


@dataclass(frozen=True)
class Outcome:
    """The exit code (negative: a signal; None: it hung) and the streams of a command."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def fault(self) -> str:
        """How the command misbehaved, or "" if it ended by itself as it should."""
        if self.code is None:
            return "hangs"
        if self.code < 0:
            return "signals"
        if "Traceback" in self.err or self.code not in (0, 1, 2, 130):
            return "tracebacks"
        return "silent failures" if self.code == 1 and not self.err.strip() else ""

    def behaved(self) -> "Outcome":
        """Fail unless the command ended by itself, with a code that means something."""
        if self.fault:
            TALLY[self.fault] += 1
        assert not self.fault, (self.fault, self.argv, self.code, self.out, self.err)
        return self


FAULTS = ("tracebacks", "signals", "hangs", "silent failures", "differences")

TALLY: Counter[str] = Counter()
"""Attempts and faults of one test."""


@pytest.fixture(autouse=True)
def tally(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Reports the attempts and the faults of each test."""
    TALLY.clear()
    yield
    record_property("tally", dict(TALLY))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the attempts and faults of all tests."""
    reports = [r for reports in terminalreporter.stats.values() for r in reports]
    total: Counter[str] = Counter()
    for report in reports:
        if getattr(report, "when", "") == "teardown":
            total.update(dict(report.user_properties).get("tally", {}))
    if total:
        faults = ", ".join(f"{total[name]} {name}" for name in FAULTS)
        terminalreporter.write_line(f"{total['attempts']:,} attempts: {faults}")


Mlxt = Callable[..., Outcome]


@pytest.fixture(scope="session")
def attacks() -> int:
    """How many attacks each test makes; `make soak` sets thousands."""
    return int(os.environ.get("MLXT_ATTACKS", "6"))


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    env = os.environ | {"MLX_DISABLE_COMPILE": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(SERVER)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a recipe and its text."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def mlxt(server: subprocess.Popen[str], place: Path) -> Mlxt:
    """Runs a command in a process of its own: `mlxt("train", "tiny.toml")`."""

    def run(*argv: str, kill_at: int = 0, below: Path | None = None, timeout_s: float = 300.0):
        streams = {name: place / f"std{name}" for name in ("out", "err")}
        command = {
            "argv": argv,
            "cwd": str(place),
            "env": {"MLXT_CACHE": str(place / "cache")},
            "kill_at": kill_at,
            "below": str(below) if below else "",
            "timeout_s": timeout_s,
            **{name: str(path) for name, path in streams.items()},
        }
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(command) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        texts = (path.read_text(errors="replace") for path in streams.values())
        return Outcome(argv, code, *texts)

    return run
