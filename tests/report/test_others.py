"""Which work disturbs a measurement: that of other processes, not its own."""

import os
from collections.abc import Callable

import pytest

from mlx_transformers.profile import others

CORES = os.cpu_count() or 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Moves the wall clock, the busy time of all cores and that of this process."""
    now = {"wall": 100.0, "busy": 5_000.0, "own": 3.0}
    monkeypatch.setattr(others.time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(others, "machine_busy_s", lambda: now["busy"])
    monkeypatch.setattr(others, "own_s", lambda: now["own"])

    def advance(**seconds: float) -> None:
        for name, value in seconds.items():
            now[name] += value

    return advance


def test_own_work_is_no_disturbance(clock: Callable[..., None]) -> None:
    watch = others.Others()
    clock(wall=10.0, busy=10.0 * CORES, own=10.0 * CORES)  # all cores, all of it ours
    assert watch.share() == 0.0
    assert others.sentence(watch.share()) is None
    clock(wall=10.0, busy=10.0 * CORES)  # and then all cores work for others
    assert watch.share() == pytest.approx(0.5)
    assert "Other processes take 50%" in (others.sentence(watch.share()) or "")


def test_busy_times_are_summed_without_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # man 5 proc: user nice system idle iowait irq softirq steal guest guest_nice; guests are
    # part of user and nice.
    text = "cpu  10 20 30 4000 5000 6 7 80 9 1\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert others._stat_ticks(text) == 10 + 20 + 30 + 6 + 7 + 80


def test_a_machine_that_tells_nothing_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "machine_busy_s", lambda: None)
    share = others.Others().share()
    assert share is None
    assert others.sentence(share) is None


def test_this_machine_counts_the_work_of_this_process() -> None:
    busy, own = others.machine_busy_s(), others.own_s()
    if busy is None:
        pytest.skip("this system doesn't tell how busy it is")
    while others.own_s() < own + 0.2:
        sum(range(10_000))
    after = others.machine_busy_s()
    assert after is not None
    assert after - busy > 0.1
