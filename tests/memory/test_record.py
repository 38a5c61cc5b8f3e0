"""Plans learn from runs."""

import errno
import os
from pathlib import Path

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.memory import record

MIB = 2**20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_correction_is_the_median_of_enough_runs_on_the_same_device() -> None:
    for measured in (120, 110):
        record.record_peak("mac", 100 * MIB, measured * MIB)
    assert record.correction("mac") == 1.0
    record.record_peak("mac", 100 * MIB, 500 * MIB)
    assert record.correction("mac") == 1.2
    assert record.correction("another mac") == 1.0


def test_runs_planned_by_another_account_correct_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(record.ENOUGH):
        record.record_peak(record.device_key(), 100 * MIB, 150 * MIB)
    assert record.correction(record.device_key()) == 1.5
    monkeypatch.setattr(record, "ACCOUNT", record.ACCOUNT + 1)
    assert record.correction(record.device_key()) == 1.0


def test_runs_of_other_kinds_of_models_correct_nothing() -> None:
    llama, mistral, mamba = (
        record.run_key(load_recipe(name).model)
        for name in ("llama_tiny", "mistral_tiny", "state_space/mamba_tiny")
    )
    for _ in range(record.ENOUGH):
        record.record_peak(mamba, 100 * MIB, 180 * MIB)
    assert record.correction(mamba) == 1.8
    assert record.correction(llama) == 1.0
    assert llama == mistral


def test_only_the_newest_runs_count_and_a_correction_has_bounds() -> None:
    for measured in [100] * 60 + [900] * 60:
        record.record_peak("mac", 100 * MIB, measured * MIB)
    assert record.ratios("mac") == [9.0] * record.REMEMBERED
    assert record.correction("mac") == record.FURTHEST


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"mac": 3}', '{"mac": ["x"]}'])
def test_a_damaged_record_is_begun_anew(cache: Path, content: str) -> None:
    cache.mkdir()
    record.record_file().write_text(content)
    assert record.correction("mac") == 1.0
    record.record_peak("mac", 100 * MIB, 150 * MIB)
    assert record.ratios("mac") == [1.5]


def test_tiny_runs_teach_nothing() -> None:
    for _ in range(record.ENOUGH):
        record.record_peak("mac", MIB, 3 * MIB)
    assert record.correction("mac") == 1.0


def test_a_cache_that_cannot_be_written_stops_nothing(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    record.record_peak("mac", 100 * MIB, 150 * MIB)
    assert record.ratios("mac") == []


def test_a_record_on_a_full_disk_stays_as_it_is_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))
    record.record_peak("a", 1e9, 2e9)
    before = record.record_file().read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    record.record_peak("a", 1e9, 3e9)
    assert record.record_file().read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [record.record_file().name]
