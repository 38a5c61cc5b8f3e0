"""Reports, the best checkpoint, early stopping, and runs where compilation or space is missing."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mlx_transformers.core.errors import Notice, RunError
from mlx_transformers.core.parse import json_line
from mlx_transformers.decode import generate
from mlx_transformers.runs import checkpoint as ck
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.runs.identity import tracker_id
from mlx_transformers.trainer import callbacks, loop
from mlx_transformers.trainer.config import Log
from mlx_transformers.trainer.evaluate import Evaluator
from mlx_transformers.trainer.metrics import Window
from mlx_transformers.trainer.sinks import JsonLines, trackers
from mlx_transformers.verbs import train as train_verb

from . import tiny


def valid(monkeypatch, losses):
    """Have the evaluations of a run find these losses, one after another."""
    left = iter(losses)

    def evaluate(self, batches):
        loss = next(left)
        return {"val_loss": loss, "val_ppl": 1.0, "val_bpb": loss, "val_tokens": 1.0}

    monkeypatch.setattr(Evaluator, "__call__", evaluate)


def kept(result):
    return [path.name for path in ck.checkpoints(result.folder.checkpoints)]


@pytest.mark.parametrize("every", [2, 3, 1000])
def test_the_best_checkpoint_is_of_the_step_of_the_best_evaluation(tmp_path, monkeypatch, every):
    """Whether or not a checkpoint was due there; and it is kept however old it is."""
    valid(monkeypatch, [3.0, 1.0, 2.0, 2.5, 2.6])
    sets = ("train.steps=10", "eval.every=2", "checkpoint.keep=1", f"checkpoint.every={every}")
    result = tiny.run(tmp_path, *sets, name="a")
    assert result.progress.best_step == 4
    assert result.folder.best().name == "step-000004"
    state = ck.load(result.folder.best())[1]
    assert (state["step"], state["best_loss"], state["best_step"]) == (4, 1.0, 4)
    assert kept(result) == ["step-000004", "step-000010"]


def test_as_many_checkpoints_are_kept_as_the_recipe_says(tmp_path):
    result = tiny.run(tmp_path, "checkpoint.every=1", "checkpoint.keep=3", name="a")
    assert kept(result) == ["step-000004", "step-000005", "step-000006"]


def test_a_run_stops_after_as_many_evaluations_without_a_new_best(tmp_path, monkeypatch):
    losses = [3.0, 2.0, 2.1, 1.9, 2.0, 1.9, 5.0]
    valid(monkeypatch, losses)
    sets = ("train.steps=90", "eval.every=3", "eval.patience=2", "log.every=5")
    result = tiny.run(tmp_path, *sets, name="a")
    assert "stopped early" in result.reason
    assert (result.progress.step, result.progress.best_step) == (18, 12)
    assert result.folder.newest().name == "step-000018"
    reports = tiny.records(result, "train_loss")
    assert [step for step, _ in reports] == [5, 10, 15, 18]
    said = []
    again = tiny.run(tmp_path, *sets, name="a", resume="auto", say=said.append)
    assert again.progress.step == 18
    assert "Raise eval.patience" in said[-1]
    valid(monkeypatch, [1.0] * 10)
    sets = ("train.steps=21", "eval.every=3", "eval.patience=3", "log.every=5")
    assert tiny.run(tmp_path, *sets, name="a", resume="auto").reason == "finished"


def test_patience_is_counted_over_a_stop_and_a_resume(tmp_path, monkeypatch):
    sets = ("eval.every=1", "eval.patience=3", "checkpoint.every=1")
    valid(monkeypatch, [1.0, 2.0, 2.0])
    tiny.run(tmp_path, *sets, "train.steps=3", name="a")
    valid(monkeypatch, [2.0, 2.0])
    result = tiny.run(tmp_path, *sets, "train.steps=9", name="a", resume="auto")
    assert result.progress.step == 4


def test_a_best_checkpoint_that_a_kill_left_unmarked_is_marked(tmp_path, monkeypatch):
    """Saved at step 4, and killed before `best` pointed there."""
    valid(monkeypatch, [3.0, 1.0])
    sets = ("eval.every=2", "checkpoint.every=2", "checkpoint.keep=1")
    first = tiny.run(tmp_path, *sets, "train.steps=4", name="a")
    ck.mark(first.folder.checkpoints, "best", first.folder.checkpoints / "step-000002")
    valid(monkeypatch, [2.0])
    result = tiny.run(tmp_path, *sets, name="a", resume="auto")
    assert result.folder.best().name == "step-000004"
    assert kept(result) == ["step-000004", "step-000006"]


def test_a_pause_begins_when_the_step_in_flight_is_done(monkeypatch):
    """Else an evaluation at every step would make the steps look free."""
    now = [0.0]

    def finish(state):
        now[0] += 5.0

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    window = Window(1.0, None)
    with monkeypatch.context() as device:
        device.setattr(callbacks.mx, "eval", finish)
        with callbacks.paused(SimpleNamespace(step=SimpleNamespace(state=[])), window):
            now[0] += 2.0
    assert window.pending() == (0, 5.0)


def test_an_evaluation_that_is_not_a_number_is_never_the_best(tmp_path, monkeypatch):
    valid(monkeypatch, [float("nan"), 2.0, float("nan"), 3.0])
    result = tiny.run(tmp_path, "train.steps=4", "eval.every=1", name="a")
    assert (result.progress.best_loss, result.progress.best_step) == (2.0, 2)
    assert result.folder.best().name == "step-000002"
    assert [loss for _, loss in tiny.records(result, "val_loss")] == [None, 2.0, None, 3.0]


def test_a_run_whose_last_evaluation_is_not_a_number_is_an_error(tmp_path, monkeypatch):
    valid(monkeypatch, [2.0, float("nan")])
    with pytest.raises(ValueError, match="loss after the last step is NaN"):
        tiny.run(tmp_path, "train.steps=2", "eval.every=1", name="a")
    assert RunFolder(tmp_path / "runs/a").best().name == "step-000001"


def test_there_is_a_report_an_evaluation_and_a_checkpoint_at_the_last_step(tmp_path):
    sets = ("train.steps=5", "log.every=3", "eval.every=4", "checkpoint.every=4")
    result = tiny.run(tmp_path, *sets, name="a")
    assert [step for step, _ in tiny.records(result, "train_loss")] == [3, 5]
    assert [step for step, _ in tiny.records(result, "val_loss")] == [4, 5]
    assert result.folder.newest().name == "step-000005"


def test_a_report_is_the_mean_of_its_steps(tmp_path):
    each = tiny.run(tmp_path, name="each")
    some = tiny.run(tmp_path, "log.every=4", name="some")
    losses = [loss for _, loss in tiny.records(each, "train_loss")]
    expected = [np.mean(losses[:4]), np.mean(losses[4:])]
    assert [loss for _, loss in tiny.records(some, "train_loss")] == pytest.approx(expected)


@pytest.mark.compiled
def test_memory_is_flat_and_nothing_is_traced_again(tmp_path):
    sets = ("train.steps=60", "train.ema=0.9", "log.every=1", "eval.every=20", "checkpoint.every=7")
    result = tiny.run(tmp_path, *sets, name="a")
    active = [gib for _, gib in tiny.records(result, "active_gib")]
    # A step in flight holds some more for a moment: what stays is the least of many steps.
    assert min(active[40:]) <= 1.03 * min(active[:20])
    assert result.traces == 1


@pytest.mark.compiled
def test_training_works_where_nothing_can_be_compiled(tmp_path, monkeypatch):
    """As on a machine without a C++ compiler; the losses are the same."""
    compiled = tiny.run(tmp_path, "train.accumulate=2", name="compiled")
    monkeypatch.setattr("mlx_transformers.trainer.traced.mx.compile", lambda f, **state: f)
    eager = tiny.run(tmp_path, "train.accumulate=2", name="eager")
    assert eager.traces > 3 >= compiled.traces
    losses = [[loss for _, loss in tiny.records(r, "train_loss")] for r in (compiled, eager)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.compiled
def test_batches_of_changing_shape_end_the_run_with_the_reason(tmp_path, monkeypatch):
    plain, count = loop.arrays, iter(range(100))

    def arrays(batch):
        return {name: value[: 4 - next(count) % 2] for name, value in plain(batch).items()}

    monkeypatch.setattr(loop, "arrays", arrays)
    with pytest.raises(RunError, match=r"traced 2 times.*changing shape"):
        tiny.run(tmp_path, name="a")


@pytest.mark.compiled
def test_masked_documents_do_not_trace_the_step_twice(tmp_path):
    """mlx-data gives the arrays of a batch back in an order of its own."""
    result = tiny.run(tmp_path, "data.mask_documents=true", name="a")
    assert result.traces == 1


def test_a_log_that_can_not_be_written_ends_the_run_in_a_sentence(tmp_path, monkeypatch):
    def full(value):
        if value.get("step") == 3:
            raise OSError(28, "No space left on device")
        return json_line(value)

    monkeypatch.setattr("mlx_transformers.trainer.sinks.json_line", full)
    with pytest.raises(RunError, match=r"log\.jsonl can't be written: No space left"):
        tiny.run(tmp_path, "checkpoint.every=2", name="a")


def test_a_recipe_is_never_half_written(tmp_path, monkeypatch):
    """A resumed run whose disk is full keeps the recipe it had."""
    result = tiny.run(tmp_path, "train.steps=2", name="a")
    before = result.folder.recipe.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("mlx_transformers.runs.durable.sync_handle", full)
        with pytest.raises(RunError, match="No space left"):
            tiny.run(tmp_path, name="a", resume="auto")
    assert result.folder.recipe.read_bytes() == before
    assert tiny.run(tmp_path, name="a", resume="auto").reason == "finished"


def test_a_resumed_run_continues_its_run_of_wandb(tmp_path, monkeypatch):
    """The same id for both halves, another for another run."""
    begun = []

    class Run:
        def log(self, record, step):
            pass

    def init(**options):
        begun.append(options)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    sets = ("log.wandb='p'", "checkpoint.every=2")
    tiny.run(tmp_path, *sets, "train.steps=2", name="a")
    tiny.run(tmp_path, *sets, "train.steps=4", name="a", resume="auto")
    tiny.run(tmp_path, *sets, "train.steps=2", name="b")
    ids = [options["id"] for options in begun]
    assert ids[0] == ids[1] != ids[2]
    assert {options["resume"] for options in begun} == {"allow"}


def test_a_moved_run_keeps_its_id_of_a_tracker_and_a_copy_gets_its_own(tmp_path):
    run = tmp_path / "a"
    run.mkdir()
    first = tracker_id(run, "wandb")
    assert tracker_id(run, "wandb") == first
    run = run.rename(tmp_path / "moved")
    assert tracker_id(run, "wandb") == first
    copy = shutil.copytree(run, tmp_path / "copy")
    with pytest.warns(Notice, match="copy is a copy of .*moved, .* begins a new one"):
        second = tracker_id(copy, "wandb")
    assert second != first
    assert tracker_id(copy, "wandb") == second
    assert tracker_id(run, "wandb") == first
    # on the same disk it stays a copy after its origin has moved
    late = shutil.copytree(run, tmp_path / "late")
    run = run.rename(tmp_path / "archive")
    with pytest.warns(Notice, match="late is a copy"):
        assert tracker_id(late, "wandb") != first
    assert tracker_id(run, "wandb") == first
    # on another disk the inode changes, and the folder that it came from is gone
    elsewhere = shutil.copytree(run, tmp_path / "elsewhere")
    moved = json.loads((elsewhere / "wandb.json").read_text())
    (elsewhere / "wandb.json").write_text(json.dumps(moved | {"device": moved["device"] + 1}))
    shutil.rmtree(run)
    assert tracker_id(elsewhere, "wandb") == first
    older = tmp_path / "older"
    older.mkdir()
    (older / "wandb-id.txt").write_text("0123\n")
    assert tracker_id(older, "wandb") == "0123"


@pytest.mark.parametrize("text", ["", "[]", '{"id": 3}', '{"id": "x", "folder": "zz"}', "\udcff"])
def test_a_damaged_id_of_a_tracker_is_replaced_or_kept(text, tmp_path):
    (tmp_path / "wandb.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert tracker_id(tmp_path, "wandb") == tracker_id(tmp_path, "wandb")


def test_a_sample_or_a_screen_that_fails_costs_no_checkpoint(tmp_path, monkeypatch):
    """The prompt is checked before the first step; what fails later is a warning."""
    sets = ("train.steps=4", "checkpoint.every=2", "log.sample_every=2")
    with pytest.warns(callbacks.RunWarning, match=r"No samples .*prompt has .* tokens"):
        assert tiny.run(tmp_path, *sets, f"log.sample_prompt={'a' * 99}").progress.step == 4

    def fail(*_, **__):
        raise RunError("no sample today")

    class Broken:
        def write(self, record):
            raise OSError(5, "the terminal went away")

    monkeypatch.setattr(generate, "generate", fail)
    monkeypatch.setattr(train_verb, "trackers", lambda *_: [Broken()])
    with pytest.warns(callbacks.RunWarning, match="Broken takes no more records"):
        done = tiny.run(tmp_path, *sets, "log.sample_prompt=a", name="a")
    assert done.progress.step == 4
    assert [r["warning"] for r in done.folder.records() if "warning" in r] == [
        "No sample: no sample today"
    ] * 2


def test_a_tracker_that_cannot_begin_is_left_out(tmp_path, monkeypatch):
    def init(**options):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.warns(UserWarning, match=r"log.wandb can't begin \(no network\)"):
        assert trackers(Log(wandb="p"), tmp_path, {}) == []


def test_a_log_that_is_no_file_is_a_sentence(tmp_path):
    with pytest.raises(RunError, match="is no file: move it away"):
        JsonLines(tmp_path)
