"""`mlxt report`, and the report that training leaves."""

from pathlib import Path

import pytest

from .conftest import Mlxt
from .test_bad_input import refused


@pytest.mark.draws
def test_training_leaves_a_report_and_the_verb_compares_runs(mlxt: Mlxt, home: Path) -> None:
    for name in ("a", "b"):
        outcome = mlxt("train", "tiny", "--name", name)
        assert f"Report: runs/{name}/report.html" in outcome.out
        assert (home / "runs" / name / "report.html").is_file()
    assert mlxt("report", "a", "b").out == "Written: runs/report-a-b.html\n"
    assert "mlxt train tiny --name b" in (home / "runs" / "report-a-b.html").read_text()
    assert mlxt("report", "a", "--out", "new/a.html").out == "Written: new/a.html\n"
    refused(mlxt("report", "c"), "There is no run 'c'")
    refused(mlxt("report", "a", "--out", "text.txt"), "text.txt exists and is not a report")
