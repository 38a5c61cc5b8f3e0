"""`mlxt profile` as a user runs it."""

import json
from pathlib import Path

import pytest

from .conftest import Mlxt
from .test_bad_input import refused


def test_a_profile_is_tables_or_json_and_a_page_on_demand(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("profile", "tiny", "--steps", "2")
    assert outcome.code == 0
    for said in ("tokens/s, median", "MFU", "optimizer", "attention + glu", "roofline"):
        assert said in outcome.out
    assert not (home / "runs").exists()
    outcome = mlxt("profile", "tiny", "--steps", "2", "--json", "--out", "p.html")
    assert json.loads(outcome.out)["speed"]["tokens_per_step"] == 32
    assert (home / "p.html").is_file()


def test_a_sweep_is_a_table_and_a_page(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    outcome = mlxt("profile", "tiny", "--steps", "2", "--sweep", "train.seq_len=8,64")
    assert outcome.code == 0
    assert "★ most tokens/s" in outcome.out
    assert "exceeds model.max_seq_len" in outcome.out
    assert (home / "runs" / "sweep-tiny.html").is_file()


def test_what_cannot_be_profiled_is_refused(mlxt: Mlxt, home: Path) -> None:
    refused(mlxt("profile", "tiny", "--sweep", "train.seq_len"), "KEY=VALUE,VALUE")
    refused(mlxt("profile", "tiny", "--sweep", "train.seqlen=8"), "seq_len")
    refused(mlxt("profile", "tiny", "--out", "text.txt"), "text.txt exists and is not a report")
    both = mlxt("profile", "tiny", "--sweep", "train.seq_len=8", "--capture", "a.gputrace")
    assert both.code == 2
