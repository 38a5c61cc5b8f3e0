"""A verdict on memory that only rises, and none on what moves or settles."""

import mlx.core as mx
import pytest

from mlx_transformers.trainer.leak import LEAST, RISES, LeakWatch
from mlx_transformers.trainer.loop import Trainer

from . import tiny

MIB = 2**20


def verdicts(values: list[float], every: int = 10) -> list[float]:
    watch = LeakWatch()
    found = [watch.verdict(every * (i + 1), value) for i, value in enumerate(values)]
    return [each[0] for each in found if each is not None]


def test_a_steady_rise_is_named_per_step() -> None:
    watch = LeakWatch()
    found = [watch.verdict(10 * i, (100 + 5 * i) * MIB) for i in range(RISES + 1)]
    assert found[:-1] == [None] * RISES
    assert found[-1] is not None
    assert found[-1][0] == 0.5 * MIB
    assert "0.50 MiB per step" in found[-1][1]


def test_it_is_told_again_only_after_as_many_rises() -> None:
    rising = [float(i * MIB) for i in range(2 * RISES + 1)]
    assert len(verdicts(rising)) == 2
    assert len(verdicts(rising[:-1])) == 1


@pytest.mark.parametrize(
    "values",
    [
        [100.0 * MIB] * 50,
        [(100.0 + i % 5) * MIB for i in range(50)],
        [(100.0 + min(i, RISES - 1)) * MIB for i in range(50)],
        [100.0 * MIB + i * (LEAST / 100) for i in range(RISES + 1)],
    ],
    ids=["flat", "moving", "settling", "crumbs"],
)
def test_what_does_not_only_rise_is_no_leak(values: list[float]) -> None:
    assert verdicts(values) == []


def test_a_run_that_keeps_arrays_is_warned_and_a_clean_one_is_not(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tiny.run(tmp_path, "train.steps=12", name="clean")
    assert tiny.records(clean, "warning") == []
    kept, plain = [], Trainer._advance

    def leaking(self: Trainer, stop: object) -> None:
        kept.append(mx.zeros((MIB // 2,)))
        mx.eval(kept)
        plain(self, stop)

    monkeypatch.setattr(Trainer, "_advance", leaking)
    leaky = tiny.run(tmp_path, "train.steps=12", name="leaky")
    [(step, growth)] = tiny.records(leaky, "leak_mib_per_step")
    assert step == RISES + 1
    assert growth == pytest.approx(2, abs=0.1)
