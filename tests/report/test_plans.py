"""Plan against actual in a report."""

from pathlib import Path

import pytest

from mlx_transformers.report.plans import plan_rows
from mlx_transformers.report.runs import report
from mlx_transformers.runs.folder import LogWarning

from .conftest import PLAN, MakeRun


def test_the_error_of_a_plan_is_that_of_the_measured_step() -> None:
    rows = plan_rows(PLAN, {"peak_gib": 0.75, "cache_gib": 0.5})
    assert rows["peak, planned"] == "450.0 MiB"
    assert rows["peak, measured in the first steps"] == "500.0 MiB"
    assert rows["… plan against it"] == "-10.0%"
    assert rows["peak of the whole run, with evaluation and samples"] == "768.0 MiB"
    assert rows["microbatches of a step"] == "4 of 2 rows"
    assert rows["recomputed blocks"] == "0, 2"


def test_a_run_too_short_to_be_measured_has_a_plan_alone() -> None:
    rows = plan_rows(PLAN | {"measured_bytes": None}, {})
    assert "peak, planned" in rows
    assert not any("measured" in name for name in rows)


def test_the_section_stands_in_the_report_and_is_left_out_without_a_plan(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("a")
    page = report([run]).read_text()
    assert "Plan against actual" in page
    assert "activations of embedding and head" in page
    both = report([run, make_run("b")], tmp_path / "both.html").read_text()
    assert both.count("450.0 MiB") == 2
    for damaged in ('{"peak_bytes": "x"}', '{"a": 1}'):
        (run / "plan.json").write_text(damaged)
        with pytest.warns(LogWarning, match="plan.json is no plan"):
            assert "Plan against actual" not in report([run]).read_text()
    (run / "plan.json").unlink()
    assert "Plan against actual" not in report([run]).read_text()
