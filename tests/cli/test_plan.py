"""`mlxt plan`, and what `mlxt train` says of it."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.memory import record

from .conftest import Mlxt
from .test_bad_input import refused


def test_the_table_ends_with_the_peak_and_says_how_it_compares(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("plan", "tiny")
    assert outcome.code == 0
    for word in ("weights", "optimizer", "activations of blocks", "peak", "the budget on"):
        assert word in outcome.out
    assert "256 is assumed" in outcome.out


def test_a_plan_tells_what_training_would_miss(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("plan", "tiny", "--data", "none.txt")
    assert outcome.code == 0
    assert "none.txt" in outcome.out
    assert "mlxt train does" in outcome.out
    told = json.loads(mlxt("plan", "tiny", "--json", "--set", "data.valid_path=none.txt").out)
    assert any("none.txt" in note for note in told["notes"])


def test_as_json_the_parts_add_up(mlxt: Mlxt, home: Path) -> None:
    found = json.loads(mlxt("plan", "tiny", "--json", "--set", "model.vocab_size=300").out)
    assert abs(sum(found["parts_bytes"].values()) - found["peak_bytes"]) < 10
    assert found["fits"]
    assert found["notes"] == []


def test_another_mac_is_planned_with_an_estimate_of_its_time(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("plan", "tiny", "--chip", "M3 Max 64GB")
    assert "Estimate, not measured:" in outcome.out
    assert "tokens/s on M3 Max 64GB" in outcome.out
    refused(mlxt("plan", "tiny", "--chip", "M3 Mox"), "Did you mean 'M3 Max'")
    refused(mlxt("plan", "tiny", "--chip", ""), "Unknown chip ''", "M3 Max")
    refused(mlxt("plan", "tiny", "--chip", "64GB"), "Unknown chip '64GB'", "M3 Max")


def test_what_does_not_fit_is_told_with_what_would(mlxt: Mlxt, home: Path) -> None:
    large = ["--set", "model.dim=512", "--set", "train.batch_size=65536", "--set"]
    outcome = mlxt("plan", "tiny", "--chip", "M1 8GB", *large, "model.block.ffn.hidden_dim=2048")
    assert "It does not fit. It would fit in" in outcome.out
    assert "train.microbatch=" in outcome.out


def test_what_a_run_took_corrects_later_plans(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "SMALLEST", 0)
    before = json.loads(mlxt("plan", "tiny", "--json").out)
    for name in "abc":
        assert mlxt("train", "tiny", "--steps", "5", "--name", name).code == 0
    after = json.loads(mlxt("plan", "tiny", "--json").out)
    assert before["correction"] == 1.0 != after["correction"]
    assert after["correction"] == record.correction(record.run_key(load_recipe("tiny").model))


def test_training_tells_the_plan_first_and_the_measured_peak_last(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("train", "tiny", "--steps", "5")
    told = outcome.out.splitlines()
    plan = next(i for i, line in enumerate(told) if line.startswith("Plan: "))
    last = next(i for i, line in enumerate(told) if line.startswith("Memory of a step: "))
    assert plan < last
    assert "planned (" in told[last]


def test_a_run_that_needs_more_than_there_is_never_starts(mlxt: Mlxt, home: Path) -> None:
    refused(mlxt("train", "tiny", "--batch-size", str(10**8)), "needs about", "there are")
    assert not list((home / "runs").glob("*")) if (home / "runs").exists() else True


def test_auto_trains(mlxt: Mlxt, home: Path) -> None:
    auto = ["--set", "train.recompute=auto", "--set", "objective.chunk=auto"]
    auto += ["--set", "train.microbatch=auto", "--set", "train.accumulate=2"]
    assert mlxt("train", "tiny", *auto).code == 0
    assert mlxt("train", "tiny", *auto, "--resume", "auto", "--steps", "6").code == 0


def test_the_limits_of_memory_are_planned_shown_and_set(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(mlxt("plan", "tiny", "--chip", "M3 Max 64GB", "--json").out)
    assert found["cache_limit_bytes"] + found["peak_bytes"] <= found["budget_bytes"]
    assert found["peak_bytes"] < found["wired_limit_bytes"] < found["budget_bytes"]
    limits = ["--set", "train.cache_limit_gib=0.5", "--set", "train.wired_limit_gib=2"]
    assert "Cache limit 512 MiB" in mlxt("plan", "tiny", *limits).out
    told = json.loads(mlxt("plan", "tiny", "--chip", "M1 8GB", *limits, "--json").out)
    assert (told["cache_limit_bytes"], told["wired_limit_bytes"]) == (2**29, 2**31)
    before = mx.set_cache_limit(2**30)
    try:
        assert mlxt("train", "tiny", *limits).code == 0
        assert mx.set_cache_limit(2**30) == 2**29
    finally:
        mx.set_cache_limit(before)
