"""`mlxt generate`: its modes, and the order in which it looks at what it is given."""

import inspect
import io
import sys
from pathlib import Path

import pytest

from mlx_transformers.cli import generate_modes as modes
from mlx_transformers.cli.generate import generate
from mlx_transformers.cli.generate_modes import Mode

from .conftest import Mlxt
from .test_bad_input import refused

MODES = [mode for mode in vars(modes).values() if isinstance(mode, Mode)]


def test_every_option_is_read_by_a_mode_and_every_mode_reads_options_there_are() -> None:
    options = set(inspect.signature(generate).parameters) - {"ctx"}
    read = {name for mode in MODES for name in mode.reads}
    assert read | set(modes.ALWAYS) == options
    assert set(modes.BY_OPTION) | set(modes.NEEDS) | set(modes.NEEDS.values()) <= options


def test_a_run_is_looked_for_before_anything_is_asked(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"never read"))
    monkeypatch.setattr(sys, "stdin", stdin)
    for line in (("--run", "nope"), ("nope",), ("nope", "--prompt", "-"), ("nope", "--tools")):
        refused(mlxt("generate", *line), "nope")
    assert stdin.buffer.tell() == 0


def test_a_run_is_named_by_the_argument_or_by_the_option(mlxt: Mlxt, home: Path) -> None:
    assert mlxt("train", "tiny", "--name", "first").code == 0
    assert mlxt("train", "tiny", "--name", "second", "--seed", "5").code == 0
    how = ("-p", "a", "-m", "4", "--temperature", "0")
    said = {mlxt("generate", *run, *how).out for run in (("first",), ("--run", "first"))}
    assert len(said) == 1
    assert mlxt("generate", "--model", "first", *how).out in said
    refused(mlxt("generate", "first", "--run", "second", *how), "named twice", "name it once")
    refused(mlxt("generate", "first", *how, "--draft", "thrid"), "thrid")
    refused(mlxt("generate", "first", *how, "--image", "a.png", "--samples", "2"), "--samples")
