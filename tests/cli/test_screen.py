"""The live panel of a run: whole numbers at any usual width."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mlx_transformers.report.screen import (
    CURVE_WIDTH,
    LiveScreen,
    PlainScreen,
    curve,
    numbers,
    open_screen,
)
from mlx_transformers.trainer.metrics import training_metrics

from .conftest import RECIPE

RECORD = {
    "train_loss": 11.123,
    "learning_rate": 3e-4,
    "val_loss": 11.456,
    "val_bpb": 5.678,
    "val_ppl": 123456.7,
    "tokens_per_s": 1234567.0,
    "mfu": 0.56,
    "loader_tokens_per_s": 123456789.0,
    "active_gib": 123.45,
    "peak_gib": 123.46,
    "cache_gib": 123.47,
    "process_gib": 123.48,
    "swap_growth_gib": 1.25,
}


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_number_is_shown_whole_on_five_lines(width: int) -> None:
    out = io.StringIO()
    losses = [10 - i / 100 for i in range(500)]
    Console(file=out, width=width).print(numbers(RECORD, losses))
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    for text in ("11.123", "3.00e-04", "11.456", "5.678", "123,456.7", "1,234,567", "56%"):
        assert text in out.getvalue()
    assert "loader tokens/s 123,456,789" in lines[2]
    assert "process 123.48" in lines[3]
    assert "growth since the run began +1.25" in lines[4]
    assert "\u2026" not in out.getvalue()


def test_the_row_of_training_shows_no_metric_of_the_validation() -> None:
    record = {"train_loss": 2.5, "val_loss": 2.25, "val_ppl": 9.5, "learning_rate": 0.01}
    assert training_metrics(record) == {"loss": 2.5}
    out = io.StringIO()
    Console(file=out, width=120).print(numbers(record, [2.5]))
    assert out.getvalue().count("2.250") == 1


def test_the_curve_falls_where_the_values_fall() -> None:
    assert curve([3.0]) == ""
    assert curve([3.0, 2.0, 1.0, 0.0]) == "\u2588\u2586\u2583\u2581"
    assert curve([1.0, math.nan, 1.0]) == "\u2581\u2581"
    assert len(curve([float(i) for i in range(1000)])) == CURVE_WIDTH


def test_a_terminal_that_cannot_rewrite_lines_gets_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_screen("x", 10, 0), PlainScreen)
    monkeypatch.setenv("TERM", "xterm")
    assert not isinstance(open_screen("x", 10, 0), PlainScreen)


def test_a_picture_of_a_run_shows_its_screen_and_loads_nothing(
    tmp_path: Path, load_tool: Callable[[str], Any]
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 3", "steps = 10"))
    report = RECORD | {"step": 4, "seconds_total": 60.0}
    del report["val_loss"]
    records = [
        report | {"step": 2, "seconds_total": 30.0},
        {"step": 4, "val_loss": 1.5, "val_bpb": 2.125},
        {"step": 4, "sample": "ROMEO"},
        report,
        report | {"step": 9, "train_loss": 0.125},
    ]
    log = "".join(json.dumps({"tokens": 0} | record) + "\n" for record in records)
    (tmp_path / "log.jsonl").write_text(log)
    tool = load_tool("terminal_picture")
    drawn = tool.picture(tmp_path, None)
    text = drawn.replace("&#160;", " ")
    for shown in (f"$ mlxt train {tmp_path.name}", "Iter 4: Val loss 1.500", "4/10<", "0:01:00"):
        assert shown in text
    assert "0.125" not in text  # after the step that is drawn
    assert "ROMEO" not in text
    assert "0.125" in tool.picture(tmp_path, 9)
    assert "url(http" not in drawn
    assert drawn == tool.picture(tmp_path, 6)


def test_the_bar_says_what_the_run_does_beside_training() -> None:
    shown = LiveScreen("mine", 10, 0)
    shown.status("validating 3 of 40")
    assert shown.bar.tasks[0].description == "mine · validating 3 of 40"
    shown.status("")
    assert shown.bar.tasks[0].description == "mine"
