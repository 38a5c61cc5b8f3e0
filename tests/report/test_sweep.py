"""A sweep measures every cell in a process of its own, and goes on when one fails."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.profile.sweep import Axis, Cell, best, parse_axes, read_sweep, sweep
from mlx_transformers.report.profiles import sweep_rows, write_sweep
from mlx_transformers.report.runs import report

from .conftest import MakeRun
from .reading import Reading

ROWS, COLUMNS = Axis("train.batch_size", ("1", "2")), Axis("train.seq_len", ("8", "16", "64"))


def cells() -> list[Cell]:
    """A grid in which the fastest is in the second row, and the last column fails."""
    found = []
    for row in ROWS.values:
        for column in COLUMNS.values:
            settings = {ROWS.key: row, COLUMNS.key: column}
            speed = {("2", "8"): 900.0}.get((row, column), 100.0)
            failed = Cell(settings, error="too <long>")
            measured = Cell(settings, speed, speed - 9, speed + 9, 0.5, 0.1)
            found.append(failed if column == "64" else measured)
    return found


def test_axes_are_keys_with_values_as_set_spells_them() -> None:
    assert parse_axes(["a.b=1,2", 'c={kind="x",n=[1,2]},"y,z"']) == [
        Axis("a.b", ("1", "2")),
        Axis("c", ('{kind="x",n=[1,2]}', '"y,z"')),
    ]
    assert parse_axes(["a= 4, 2,4"]) == [Axis("a", ("4", "2"))]


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1,,2"])
def test_a_malformed_axis_is_named(text: str) -> None:
    with pytest.raises(RecipeError, match="KEY=VALUE,VALUE"):
        parse_axes([text])
    with pytest.raises(RecipeError, match="swept twice"):
        parse_axes(["a=1", "a=2"])


def test_a_sweep_that_was_kept_comes_into_the_report_of_a_run(
    make_run: MakeRun, tmp_path: Path
) -> None:
    kept = tmp_path / "sweep.json"
    kept.write_text(json.dumps({"best": 3, "cells": [asdict(cell) for cell in cells()]}))
    assert read_sweep(kept) == ([ROWS, COLUMNS], cells())
    words = Reading(report([make_run("one")], sweep=kept)).words
    assert words["sweep"].count("★ 900") == 1
    assert words["sweep"].count("too <long>") == 2
    for wrong in ("{", "[]", '{"cells": []}', '{"cells": [{"speed": 1}]}', '{"cells": [3]}'):
        kept.write_text(wrong)
        with pytest.raises(RunError, match=r"can't be read as a sweep .*--json > sweep\.json"):
            read_sweep(kept)


def test_one_colour_is_one_number_in_all_maps_of_a_sweep(tmp_path: Path) -> None:
    """The lowest and the highest of each map would else look alike."""
    axes = [Axis("a", ("1", "2")), Axis("b", ("1",)), Axis("c", ("1", "2"))]
    speeds = {("1", "1"): 100.0, ("1", "2"): 200.0, ("2", "1"): 300.0, ("2", "2"): 500.0}
    found = [
        Cell({"a": a, "b": "1", "c": c}, speed, speed, speed, 0.5, 0.1)
        for (a, c), speed in speeds.items()
    ]
    text = write_sweep("tiny", axes, found, "mlxt", tmp_path / "s.html").read_text()
    first, second = (text[text.index(f'id="tokens-per-s-{n}-figure_1"') :] for n in (0, 1))
    colours = [re.findall(r"fill: (#[0-9a-f]{6})", part)[:2] for part in (first, second)]
    assert len({*colours[0], *colours[1]}) == 4


def test_the_page_marks_the_fastest_cell_and_says_why_others_fail(tmp_path: Path) -> None:
    assert best(cells()) == 3
    path = write_sweep("tiny", [ROWS, COLUMNS], cells(), "mlxt profile", tmp_path / "s.html")
    page = Reading(path)
    assert {"maps", "cells", "command"} <= set(page.words)
    assert page.words["maps"].count("★ 900") == 1
    assert page.words["maps"].count("fails") == 2 * 2
    assert "too <long>" in page.words["cells"]
    marked = re.findall(r'<tr class="best">(.*?)</tr>', path.read_text())
    assert len(marked) == 1
    assert "900" in marked[0]
    assert not re.findall("https?://", path.read_text())


def test_more_than_two_axes_give_a_map_for_each_value_of_the_others(tmp_path: Path) -> None:
    third = Axis("train.dtype", ("float32", "bfloat16"))
    grid = [
        Cell({third.key: dtype, **cell.settings}, cell.tokens_per_s, 1, 2, 0.5, 0.1, cell.error)
        for dtype in third.values
        for cell in cells()
    ]
    path = write_sweep("tiny", [third, ROWS, COLUMNS], grid, "mlxt", tmp_path / "s.html")
    assert path.read_text().count('aria-label="Speed') == 2
    assert Reading(path).words["maps"].count("★ 900") == 1


def test_a_sweep_over_one_key_is_one_row(tmp_path: Path) -> None:
    grid = [Cell({"a": v}, float(v), 1, 2, 0.5, 0.1) for v in ("1", "2")]
    titles, rows = sweep_rows([Axis("a", ("1", "2"))], grid)
    assert titles[0] == "a"
    assert [row[-1] for row in rows] == ["≈ ★: quartiles overlap", "★ most tokens/s"]
    assert write_sweep("tiny", [Axis("a", ("1", "2"))], grid, "", tmp_path / "s.html").is_file()


def test_every_cell_is_measured_and_one_that_fails_says_why(home: Path) -> None:
    axes = parse_axes(["train.seq_len=8,64", "data.path=text.txt,gone.txt"])
    small, lost, *long = sweep("tiny", ["train.batch_size=1"], axes, steps=2)
    assert small.error is None
    assert (small.tokens_per_s or 0) > 0
    assert 0 < (small.peak_gib or 0) < 0.05
    assert "gone.txt" in (lost.error or "")
    for cell in long:
        assert "train.seq_len = 64 exceeds model.max_seq_len = 16" in (cell.error or "")


def test_a_cell_that_the_system_kills_ends_no_sweep(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = home / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    found = sweep("tiny", [], parse_axes(["train.batch_size=1,2"]), steps=2)
    assert len(found) == 2
    assert all("memory ran out" in (cell.error or "") for cell in found)
    assert best(found) is None


def test_a_key_that_no_recipe_has_is_an_error_at_once(home: Path) -> None:
    with pytest.raises(RecipeError, match="batch_size"):
        sweep("tiny", [], parse_axes(["train.batchsize=1,2"]), steps=2)


def test_a_cell_that_would_not_fit_is_never_begun(home: Path, monkeypatch) -> None:
    from mlx_transformers.profile import sweep as sweeping

    begun: list[dict] = []

    def measured(recipe: str, sets: list, settings: dict, steps: int) -> Cell:
        begun.append(settings)
        return Cell(settings, 100.0, 90.0, 110.0, 0.1, 0.5)

    monkeypatch.setattr(sweeping, "_measured", measured)
    axes = sweeping.parse_axes(["train.batch_size=2,100000000"])
    cells = sweeping.sweep("tiny", [], axes, 2)
    assert begun == [{"train.batch_size": "2"}]
    assert [cell.planned for cell in cells] == [False, True]
    assert "Stopped by plan. This run needs about" in (cells[1].error or "")
    assert "train.microbatch=" in (cells[1].error or "")
    assert "no room" in write_sweep("tiny", axes, cells, "mlxt", home / "sweep.html").read_text()
