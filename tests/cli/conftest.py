"""The command as a user runs it: `mlxt("train", "tiny")` in a folder of its own."""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import mlx.core  # noqa: F401  (before a test changes the cache: its kernels are compiled once)
import pytest
from small import recipe

from mlx_transformers.cli.main import main
from mlx_transformers.report import runs

RECIPE = recipe()
WORDS = "the a king of love and sorrow went to see what light had come"

Mlxt = Callable[..., "Outcome"]


@dataclass
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small recipe, its text, and a cache of its own; the command runs here."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    (tmp_path / "text.txt").write_text(" ".join(draw.choice(WORDS.split()) for _ in range(300)))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(autouse=True)
def no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the report that a run draws at its end, but in tests marked `draws`."""
    if request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr(runs, "written", "Report: {}".format)


@pytest.fixture
def mlxt(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Mlxt:
    """Runs the command in this process, and fails where it would show a traceback."""

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mlxt", *arguments])
        monkeypatch.setattr(
            sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=lambda: stdin))
        )
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Outcome(int(ended.value.code or 0), *capfd.readouterr())

    return run
