"""`mlxt verify` as a user runs it."""

import json
from pathlib import Path

import pytest

from cli.conftest import Mlxt
from mlx_transformers.certify import certificate, gradients
from mlx_transformers.certify.subject import subject_of_recipe
from mlx_transformers.report.certificates import certificate as report_of

ONE_ROW = ("--only", "chunked")


def test_a_recipe_is_measured(mlxt: Mlxt) -> None:
    done = mlxt("verify", "tiny.toml", *ONE_ROW, "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["rows"]
    assert row["state"] == "holds"
    assert 0 <= row["worst"] <= row["tolerance"]


def test_a_run_keeps_its_certificate_and_its_report_shows_it(
    home: Path, mlxt: Mlxt, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = subject_of_recipe("tiny.toml", [], home).folder
    run = str(folder.path)
    rows = tuple(row for row in certificate.ROWS if row.name.startswith(("chunked", "cached")))
    monkeypatch.setattr(certificate, "ROWS", rows)
    done = mlxt("verify", run)
    assert done.code == 0, done.err
    assert "cached = uncached" in done.out
    kept = json.loads((folder.path / "certificate.json").read_text())
    assert [row["state"] for row in kept["rows"]] == ["holds", "holds"]
    assert "cached = uncached" in report_of(folder)

    monkeypatch.setattr(gradients, "tree_difference", lambda a, b: float("nan"))
    broken = mlxt("verify", run, *ONE_ROW)
    assert broken.code == 1
    assert "broken" in broken.out
    assert "not a number" in broken.out
    assert json.loads((folder.path / "certificate.json").read_text()) == kept

    refused = mlxt("verify", run, "--set", "train.seed=2")
    assert refused.code == 1
    assert "leave --set out" in refused.err


def test_what_cannot_be_verified_has_a_cure(mlxt: Mlxt) -> None:
    done = mlxt("verify", "tinny.toml")
    assert done.code == 1
    assert "tiny" in done.err
    done = mlxt("verify", "tiny.toml", "--only", "chunkd")
    assert done.code == 1
    assert "chunked = full loss" in done.err
