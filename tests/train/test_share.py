"""`train.share`: a run that leaves the machine a part of the time."""

import mlx.core as mx
import pytest

from mlx_transformers.runs.checkpoint import load
from mlx_transformers.trainer import loop

from . import tiny


def test_a_pause_leaves_a_step_its_share_of_the_time():
    assert loop.pause(0.3, 0.5) == pytest.approx(0.3)
    assert loop.pause(0.1, 0.25) == pytest.approx(0.3)
    assert loop.pause(0.3, 1.0) == 0.0
    assert loop.pause(100.0, 0.1) == loop.LONGEST_PAUSE


def test_a_shared_run_pauses_after_every_step_and_learns_the_same(tmp_path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(loop.time, "sleep", pauses.append)
    mx.disable_compile()
    try:
        whole = tiny.run(tmp_path, "train.steps=3", name="whole")
        assert pauses == []
        shared = tiny.run(tmp_path, "train.steps=3", "train.share=0.5", name="shared")
    finally:
        mx.enable_compile()
    assert len(pauses) == 3
    a, b = (load(run.folder.newest())[0]["model"] for run in (whole, shared))
    assert tiny.same(a, b)
