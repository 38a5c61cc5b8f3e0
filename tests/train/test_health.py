"""Weights, gradients and settings that are not finite end a run with a sentence."""

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.errors import MlxtError, RunError
from mlx_transformers.optim.scaler import LossScaler
from mlx_transformers.runs import checkpoint
from mlx_transformers.trainer import health

from . import tiny

EVERY = ("checkpoint.every=2", "eval.every=2", "train.steps=8")


def break_weights(monkeypatch, after, value=float("nan")):
    """Put a value that is not finite into a weight when step `after` is done."""
    plain = tiny.loop.Trainer._advance

    def advance(self, stop):
        plain(self, stop)
        if self.progress.step == after:
            self.step.model.norm.weight = mx.full((16,), value)

    monkeypatch.setattr(tiny.loop.Trainer, "_advance", advance)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_end_the_run_and_replace_no_checkpoint(tmp_path, monkeypatch, value):
    break_weights(monkeypatch, 5, value)
    with pytest.raises(RunError, match=r"not finite after step \d: norm\.weight.*learning_rate"):
        tiny.run(tmp_path, *EVERY, name="a")
    [folder] = (tmp_path / "runs").iterdir()
    saved = checkpoint.checkpoints(folder / "checkpoints")
    assert [path.name for path in saved][-1] == "step-000004"
    trees, _ = checkpoint.load(saved[-1])
    assert all(mx.isfinite(x).all().item() for x in [x for _, x in tree_flatten(trees["model"])])


def test_broken_weights_are_not_saved_at_the_very_step(tmp_path, monkeypatch):
    break_weights(monkeypatch, 4)
    with pytest.raises(RunError, match=r"after step 4: norm\.weight"):
        tiny.run(tmp_path, "checkpoint.every=2", name="a")
    names = [p.name for p in checkpoint.checkpoints(tmp_path / "runs/a/checkpoints")]
    assert names == ["step-000002"]


def test_too_many_skipped_steps_in_a_row_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "MOST_IN_A_ROW", 3)
    tiny.spoil(monkeypatch, range(4, 100))
    with pytest.raises(RunError, match="last 3 steps, up to step 7, were not finite"):
        tiny.run(tmp_path, "train.steps=40", "checkpoint.every=2", name="a")
    names = [p.name for p in checkpoint.checkpoints(tmp_path / "runs/a/checkpoints")]
    assert names[-1] in ("step-000004", "step-000006")


def test_a_run_that_mostly_skipped_is_saved_and_is_an_error(tmp_path, monkeypatch):
    tiny.spoil(monkeypatch, range(2, 100))
    with pytest.raises(RunError, match="4 of 6 steps were skipped"):
        tiny.run(tmp_path, name="a")
    assert checkpoint.newest(tmp_path / "runs/a/checkpoints").name == "step-000006"


def test_single_skipped_steps_change_nothing_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "MOST_IN_A_ROW", 2)
    tiny.spoil(monkeypatch, {1, 3})
    result = tiny.run(tmp_path, name="a")
    assert (result.reason, result.progress.skipped) == ("finished", 2)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("optim.learning_rate=inf", "optim.learning_rate"),
        ("optim.learning_rate=nan", "optim.learning_rate"),
        ("optim.eps=1e30", "optim.eps"),
        ("optim.learning_rate=1e38", "optim.learning_rate"),
        ("optim.weight_decay=1e30", "change their sign"),
        ("optim.weight_decay=inf", "optim.weight_decay"),
        ("optim.betas=[0.9, 1.0]", "optim.betas"),
        ("optim.betas=[0.9, 0.99999999]", "optim.betas"),
        ("optim.eps=1e-60", "optim.eps"),
        ("optim={kind='sgd', learning_rate=0.1, momentum=0.99999999}", "momentum"),
        ("train.ema=0.99999999", "train.ema"),
        ("train.clip={kind='norm', max_norm=inf}", "max_norm"),
    ],
)
def test_settings_that_diverge_are_refused_by_the_recipe(tmp_path, key, message):
    with pytest.raises(MlxtError, match=message):
        tiny.recipe(tmp_path, key)


def test_a_loss_scale_of_zero_is_an_error():
    with pytest.raises(ValueError, match="loss scale of 0"):
        LossScaler(initial=0.0)
