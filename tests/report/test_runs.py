"""The report is one file that a browser reads without a network, and says what the run was."""

import errno
import math
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.report import curves
from mlx_transformers.report.curves import by_seed
from mlx_transformers.report.run import read
from mlx_transformers.report.runs import report, written
from mlx_transformers.report.table import Rung
from mlx_transformers.runs import durable
from mlx_transformers.runs.folder import RunFolder

from .conftest import MakeRun, log
from .reading import Reading

SECTIONS = {"summary", "loss", "speed", "memory", "samples", "recipe", "environment", "command"}


def test_one_run_gives_one_page_in_its_folder_with_every_section(make_run: MakeRun) -> None:
    folder = make_run("first")
    path = report([folder])
    assert path == folder / "report.html"
    page = Reading(path)
    assert set(page.words) >= SECTIONS
    assert all(page.words[section].strip() for section in SECTIONS)


def test_a_page_asks_nothing_of_the_network_and_runs_nothing(make_run: MakeRun) -> None:
    path = report([make_run("a"), make_run("b", dim=32)], make_run("c") / "out.html")
    text, page = path.read_text(), Reading(path)
    assert not re.findall(r"https?://|@import|//[a-z]+\.", text)
    assert "script" not in page.tags
    assert all(r.startswith(("#", "data:,")) for r in page.references)
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "an id that occurs twice means the first of them"


def test_the_summary_holds_the_numbers_of_the_log(make_run: MakeRun) -> None:
    words = Reading(report([make_run("first")])).words["summary"]
    for said in ("4,000", "1.0000", "2.5000", "1.2500", "1,025", "1,010 to 1,040", "25.0%"):
        assert said in words
    assert "0.500 GiB" in words
    assert "0.900 GiB" in words
    assert "parameters" not in words


def test_a_page_begins_with_a_sentence_and_the_samples(make_run: MakeRun) -> None:
    text = report([make_run("first")]).read_text()
    sentence = (
        "Validation bits/byte 1.2500 at step 20, after 40 steps (4 k tokens) in 4 s, "
        "1,025 tokens/s."
    )
    assert sentence in text
    places = [text.index(f'<section id="{name}"') for name in ("samples", "loss", "summary")]
    assert text.index(sentence) < places[0]
    assert places == sorted(places)


def test_a_report_behind_a_link_is_replaced_and_the_link_stays(make_run: MakeRun) -> None:
    run = make_run("first")
    page, link = run.parent / "page.html", run / "linked.html"
    report([run], page)
    page.write_text(page.read_text() + "old")
    link.symlink_to(page)
    report([run], link)
    assert link.is_symlink()
    assert not page.read_text().endswith("old")
    assert not [*run.glob(".*partial"), *run.parent.glob(".*partial")]


def test_training_and_validation_share_their_axes(make_run: MakeRun) -> None:
    text = report([make_run("first")]).read_text()
    svg = re.search(r'<svg[^>]*aria-label="Loss, training and validation.*?</svg>', text, re.DOTALL)
    assert svg is not None
    assert {"var(--series-0)", "var(--series-1)"} <= set(re.findall(r"var\(--series-\d\)", svg[0]))


def test_runs_of_several_seeds_are_one_line_with_a_band(make_run: MakeRun) -> None:
    shifted = [
        record | ({"val_loss": record["val_loss"] + 0.5} if "val_loss" in record else {})
        for record in log()
    ]
    runs = [make_run("a-seed1"), make_run("a-seed2", records=shifted), make_run("b")]
    found = by_seed([read(RunFolder(run)) for run in runs])
    assert {name: len(group) for name, group in found.items()} == {"a": 2, "b": 1}
    line = curves._line("a", found["a"], "val_loss", 0)
    assert line.points == [(2000, 2.75), (4000, 3.0)]
    assert line.band == [(2.5, 3.0), (2.75, 3.25)]
    text = report(runs).read_text()
    svg = re.search(r'<svg[^>]*aria-label="Validation loss.*?</svg>', text, re.DOTALL)
    assert svg is not None
    assert "fill-opacity: 0.2" in svg[0]


def test_a_single_value_is_no_plot(make_run: MakeRun) -> None:
    records = [
        {"step": n, "tokens": 8 * n, "train_loss": 3.0 - n, "tokens_per_s": 1.0} for n in (1, 2)
    ]
    records.append({"step": 2, "tokens": 16, "val_loss": 2.0, "val_accuracy": 0.5})
    text = report([make_run("first", records=records)]).read_text()
    assert 'aria-label="Loss, training and validation' in text
    assert 'aria-label="Accuracy' not in text
    assert "0.5000" in text


def test_the_number_of_parameters_is_that_of_the_newest_checkpoint(make_run: MakeRun) -> None:
    folder = make_run("first")
    saved = folder / "checkpoints" / "step-000040"
    saved.mkdir(parents=True)
    file = saved / "model.safetensors"
    mx.save_safetensors(str(file), {"a": mx.zeros((30, 41)), "b": mx.zeros((4,))})
    assert "1,234" in Reading(report([folder])).words["summary"]
    for damage in (b"damaged", b"\xff" * 16, struct.pack("<Q", 2) + b"[]"):
        file.write_bytes(damage)
        assert "parameters" not in Reading(report([folder])).words["summary"]


def test_a_report_on_a_full_disk_leaves_the_earlier_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run("first")
    page = report([folder])
    before = page.read_text()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "sync_handle", full)
    with pytest.raises(RunError, match=r"No space left on device\. A report that stood there is"):
        report([folder])
    assert page.read_text() == before
    assert not list(folder.glob(".*.partial"))


def test_a_list_where_a_number_belongs_is_a_line_that_is_skipped(make_run: MakeRun) -> None:
    folder = make_run("first", records=[*log(), {**log()[-1], "val_loss": [1]}])
    with pytest.warns(UserWarning, match="1 of its lines can't be read"):
        assert len(read(RunFolder(folder)).records) == len(log())


def test_what_a_model_wrote_is_shown_and_not_obeyed(make_run: MakeRun) -> None:
    page = Reading(report([make_run("first")]))
    assert "<b>ROMEO:</b>\N{REPLACEMENT CHARACTER} & so & on" in page.words["samples"]
    assert "b" not in page.tags


def test_the_recipe_is_shown_with_what_set_each_key(make_run: MakeRun) -> None:
    words = Reading(report([make_run("first")])).words
    assert "steps = 40  # from --set" in words["recipe"]
    assert "mlxt train tiny --name first" in words["command"]
    assert "0.32.4" in words["environment"]


def test_several_runs_share_their_axes_and_their_recipes_are_compared(make_run: MakeRun) -> None:
    folders = [make_run("narrow", dim=16), make_run("wide", dim=32)]
    path = report(folders, root=folders[0].parent)
    assert path == folders[0].parent / "report-narrow-wide.html"
    page = Reading(path)
    assert page.words["differences"].split() == [
        "Recipe", "differences", "key", "narrow", "wide", "model.dim", "16", "32",
    ]  # fmt: skip
    loss = re.search(r'<svg[^>]*aria-label="Validation loss.*?</svg>', path.read_text(), re.DOTALL)
    assert loss is not None
    assert {"var(--series-0)", "var(--series-1)"} <= set(re.findall(r"var\(--series-\d\)", loss[0]))


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun) -> None:
    first, second = make_run("a/same"), make_run("b/same")
    words = Reading(report([first, second], first / "both.html")).words["command"]
    assert str(first) in words
    assert str(second) in words


def test_the_points_of_a_line_are_those_of_the_log(make_run: MakeRun) -> None:
    records = [r for r in log() if "learning_rate" in r]
    text = report([make_run("first", records=records)]).read_text()
    svg = re.search(r'<svg[^>]*aria-label="Learning rate.*?</svg>', text, re.DOTALL)
    assert svg is not None
    drawn = re.findall(r'<path d="([^"]*)" clip-path[^>]*stroke: var\(--series-0\)', svg[0])
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", drawn[0])]
    rates = [r["learning_rate"] for r in records]
    assert len(heights) == len(rates)
    for i in (2, 3):  # heights count from the top
        down, wanted = heights[i] - heights[0], rates[0] - rates[i]
        assert math.isclose(
            down / (heights[1] - heights[0]), wanted / (rates[0] - rates[1]), rel_tol=1e-3
        )


def test_a_file_that_is_no_report_is_not_replaced(make_run: MakeRun) -> None:
    folder = make_run("first")
    mine = folder / "notes.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(RunError, match="is not a report"):
        report([folder], mine)
    assert mine.read_text() == "<p>mine</p>"
    assert report([folder]) == report([folder])


def test_a_run_without_records_says_so(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match="has no record yet"):
        report([make_run("first", records=[])])


def test_a_run_that_only_began_to_report_gives_a_page(make_run: MakeRun) -> None:
    record = {"step": 1, "tokens": 8, "val_loss": 3.0, "val_bpb": 2.0}
    page = Reading(report([make_run("first", records=[record])]))
    assert "memory" not in page.words
    assert "3.0000" in page.words["summary"]


def test_without_matplotlib_the_error_says_what_to_install(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run("first")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RunError, match="pip install matplotlib"):
        report([folder])
    assert not (folder / "report.html").exists()


def test_the_newest_run_is_taken_where_none_is_named(make_run: MakeRun) -> None:
    folder = make_run("first")
    (folder / "checkpoints" / "step-000040").mkdir(parents=True)
    assert report([], root=folder.parent) == Path(folder / "report.html")


def test_a_run_that_ended_says_where_its_report_is_or_why_there_is_none(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(make_run("first"))
    assert written(folder) == f"Report: {folder.path / 'report.html'}"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert written(folder).startswith("Without a report: Plots need matplotlib")


def test_statistics_of_layers_are_lines_and_loads_of_experts_a_heat_map(make_run: MakeRun) -> None:
    records = [
        {"step": n, "tokens": 8 * n, "train_loss": 3.0, "dropped/1": 0.1 * n, "dropped/3": 0.2}
        | {"expert_load/1": [1.5, 0.5], "expert_load/3": [0.25, 1.75]}
        for n in (1, 2)
    ]
    page = report([make_run("first", records=records)]).read_text()
    assert 'aria-label="Dropped by layer"' in page
    svg = re.search(r'<svg[^>]*aria-label="Expert load by layer".*?</svg>', page, re.DOTALL)
    assert svg is not None
    assert {"1.50", "0.25", "1.75"} <= set(re.findall(r"\d\.\d\d", svg[0]))
    assert re.findall(r">layer (\d)</text>", page) == ["2", "4"], "the first is layer 1"
    assert "min-width" not in svg.string[svg.start() - 60 : svg.start()]
    many = [record | {"expert_load/1": [1.0] * 16} for record in records]
    wide = report([make_run("many", records=many)]).read_text()
    found = re.search(r'min-width: (\d+)px"><svg[^>]*aria-label="Expert load', wide)
    assert found is not None
    assert int(found[1]) > 16 * 50, "cells stay as wide as their numbers on a phone"
    assert 'id="layers"' not in report([make_run("second")]).read_text()


def test_a_ladder_begins_with_its_table_and_its_verdicts(make_run: MakeRun) -> None:
    runs = [make_run(f"{name}-seed{seed}") for name in ("old", "new") for seed in (1, 2)]
    first = Rung("old", 100, 100, 4000, 3.0, 2.0, None, 10.0, 0.1, None, None, 4.0, value=2.0)
    second = replace(
        first, recipe="new", value=1.5, delta=-0.5, delta_error=0.1, seeds=(1, 2), runs=("new",)
    )
    page = Reading(report(runs, root=runs[0].parent, rungs=[first, second]))
    assert "Ladder from old to new" in page.words[""]
    assert "new against old: -0.500 ± 0.100 bits/byte, better." in page.words[""]
    assert page.words["ladder"].split()[-5:] == ["0.100", "10", "0.10", "-", "-"]
    assert "4 runs" in Reading(report(runs, root=runs[0].parent)).words[""]
