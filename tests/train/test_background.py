"""Checkpoints that are written beside the training: `checkpoint.async = true`."""

import threading

import pytest

from mlx_transformers.assembly.plan import plan
from mlx_transformers.core.errors import CheckpointError
from mlx_transformers.runs import checkpoint
from mlx_transformers.trainer import loop

from . import tiny

SETS = ("train.ema=0.9", "checkpoint.every=2", "checkpoint.keep=9")
ASYNC = "checkpoint.async=true"


def test_the_files_are_those_of_a_run_that_waits(tmp_path):
    ended = {
        each: tiny.run(tmp_path, *SETS, *each, name=f"a{len(each)}") for each in ((), (ASYNC,))
    }
    ours, theirs = ([*checkpoint.checkpoints(r.folder.checkpoints)] for r in ended.values())
    assert [path.name for path in ours] == ["step-000002", "step-000004", "step-000006"]
    for one, other in zip(ours, theirs, strict=True):
        files = {path.name: path.read_bytes() for path in one.glob("*.safetensors")}
        assert files == {path.name: path.read_bytes() for path in other.glob("*.safetensors")}
        assert len(files) == 3


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The first save ends only once two more batches were made; the next one waits for it."""
    plain_save, plain_arrays = checkpoint.save, loop.arrays
    made, went_on, ended = [0], threading.Event(), []

    def save(folder, step, *rest, **options):
        at = made[0]
        if step == 2:
            assert went_on.wait(60), "training waited for its checkpoint"
            assert made[0] >= at + 1
        else:
            assert ended == [2, 4][: len(ended)], "two checkpoints were written at once"
        ended.append(step)
        return plain_save(folder, step, *rest, **options)

    def arrays(batch):
        made[0] += 1
        if made[0] == 5:  # the dry run, and the batches of steps 1 to 4
            went_on.set()
        return plain_arrays(batch)

    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr(loop, "arrays", arrays)
    monkeypatch.setattr("mlx_transformers.verbs.train.arrays", arrays)
    assert tiny.run(tmp_path, *SETS, ASYNC, name="a").reason == "finished"
    assert ended == [2, 4, 6]


def test_an_error_of_the_writing_stops_the_run_with_its_sentence(tmp_path, monkeypatch):
    def full(*args, **options):
        raise CheckpointError("The checkpoint could not be saved: No space left on device.")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        tiny.run(tmp_path, *SETS, ASYNC, name="a")


def test_the_plan_counts_the_arrays_that_are_written(tmp_path):
    peaks = []
    for sets in ((), (ASYNC,), (ASYNC, "train.ema=0.9")):
        built = tiny.built(tmp_path, *sets)
        peaks.append(plan(built.recipe, built.model).account.held)
    assert {*peaks[1]} - {*peaks[0]} == {"checkpoint that is written"}
    written = [held["checkpoint that is written"] for held in peaks[1:]]
    assert written[1] - written[0] == peaks[2]["average of weights"] > 0
