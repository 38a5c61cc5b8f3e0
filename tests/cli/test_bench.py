"""`mlxt bench`: a table, a line for docs/macs.md, a file."""

import json
from pathlib import Path

import pytest

from mlx_transformers.profile import rung
from mlx_transformers.profile.rung import BenchRow
from mlx_transformers.report import bench as table
from mlx_transformers.verbs import bench as verb

from .conftest import Mlxt
from .test_bad_input import refused

ROOT = Path(__file__).parents[2]
ROW = BenchRow(
    "mistral_tiny", 13_825.4, 13_000.0, 14_000.0, 0.314, None, 0.1712, 1_045.2, 21.0, 4_321.0
)
FAILED = BenchRow("mixtral_tiny", error="The system killed it.")


def test_recipes_are_measured_as_a_table_a_line_and_a_file(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(verb, "facts", lambda: {
        "device_name": "Apple M9", "memory_gib": 63.7, "mlx": "0.32.4"
    })  # fmt: skip
    outcome = mlxt("bench", "tiny", "--seconds", "0.05", "--json", "b.json")
    assert outcome.code == 0, outcome.err
    assert "Measuring tiny (1 of 1)" in outcome.err
    found = json.loads((home / "b.json").read_text())
    [row] = found["rows"]
    assert row["error"] is None
    assert row["low"] <= row["tokens_per_s"] <= row["high"]
    assert row["decode_tokens_per_s"] > 0
    assert 0 < row["peak_gib"] < 0.1
    assert row["energy_missing"] or row["joules_per_million_tokens"]
    last = next(line for line in outcome.out.splitlines() if line.startswith("| Apple M9 | 64 |"))
    assert f" | {row['tokens_per_s']:,.0f} · " in last
    refused(mlxt("bench", "tiny", "--json", "b.json"), "b.json exists")
    refused(mlxt("bench", "tinny"), "tiny")


def test_a_recipe_that_fails_is_a_row_with_its_reason(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "facts", lambda: {
        "device_name": "Apple M9", "memory_gib": 64.0, "mlx": "0.32.4"
    })  # fmt: skip
    monkeypatch.setattr(
        verb, "measured_apart", lambda recipe, sets, seconds: BenchRow(recipe, error="It is hot.")
    )
    outcome = mlxt("bench", "tiny")
    assert outcome.code == 1
    assert "tiny: It is hot." in outcome.out
    assert outcome.out.rstrip().endswith("| - · - · - · - · - |")


def test_a_process_that_is_ended_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rung.sys, "executable", "/bin/false")
    assert rung.measured_apart("tiny", (), 1.0).error == "It ended with exit code 1 and no message."


def test_the_line_fits_the_table_of_the_page() -> None:
    page = (ROOT / "docs" / "macs.md").read_text()
    assert table.heads(verb.RUNGS) in page
    rows = [ROW] * 4 + [FAILED]
    line = table.line(("Apple M9", "64", "macOS 26.1", "0.32.4"), rows)
    assert "| 13,825 · 31% · 0.17 · 1,045 · 4.32 |" in line
    assert line.count("|") == table.heads(verb.RUNGS).splitlines()[0].count("|")
    assert table.reasons(rows) == ["mixtral_tiny: The system killed it."]
    for title in (title.replace("\n", " ") for title in table.TITLES[1:]):
        assert f"| {title} |" in page
