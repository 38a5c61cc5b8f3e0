"""Low precision with float32 masters, and steps whose gradient is not finite."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context

from . import tiny

POISON = float("inf")


def feed(built, rows=4, seed=0):
    tokens = tiny.tokens((rows, 17), built.tokenizer.vocab_size, seed)
    return {"tokens": mx.array(tokens), "weights": mx.ones((rows, 16))}


def poisoned(built, value=POISON, rows=4):
    """A batch whose loss, and so its gradient, is not finite."""
    return feed(built, rows) | {"weights": mx.full((rows, 16), value)}


def take(built, batches, index=0):
    metrics = built.step(batches, index)
    mx.eval(metrics, built.step.state)
    return {name: value.item() for name, value in metrics.items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_low_precision_learns_as_float32_does(tmp_path, dtype, accumulate):
    """The same batch ten times; weights, moments and gradients stay float32."""
    losses = {}
    for kind in ("float32", dtype):
        built = tiny.built(tmp_path, f"train.dtype='{kind}'", f"train.accumulate={accumulate}")
        batch = feed(built)
        losses[kind] = [take(built, [batch] * accumulate, i)["loss"] for i in range(10)]
        kept = [built.model.parameters(), built.step.train_state.optimizer.state]
        leaves = [leaf for leaf in tiny.leaves(kept).values() if leaf.dtype.kind == "f"]
        assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    assert losses[dtype][-1] < losses[dtype][0] - 0.3
    assert losses[dtype] == pytest.approx(losses["float32"], abs=0.05)
    assert losses[dtype] != losses["float32"]


def test_the_model_keeps_its_float32_weights_where_a_forward_fails(tmp_path):
    built = tiny.built(tmp_path, "train.dtype='bfloat16'")
    with pytest.raises(KeyError, match="tokens"):
        built.step.loss(built.model.trainable_parameters(), {}, Context())
    assert {p.dtype for _, p in tree_flatten(built.model.parameters())} == {mx.float32}


def test_the_forward_really_computes_in_the_low_precision(tmp_path):
    built = tiny.built(tmp_path, "train.dtype='bfloat16'")
    seen, hidden = [], built.model.hidden

    def spy(tokens, ctx):
        out = hidden(tokens, ctx)
        seen.append((out.dtype, ctx.training))
        return out

    object.__setattr__(built.model, "hidden", spy)
    take(built, [feed(built)])
    built.evaluator([feed(built)])
    assert seen == [(mx.bfloat16, True), (mx.bfloat16, False)]


def test_masters_move_where_bfloat16_weights_would_stand_still(tmp_path):
    """At a rate of 1e-4 a bfloat16 weight near 1 is the nearest number to its own update."""
    sets = ("optim.learning_rate=1e-4", "optim.schedule={kind='constant'}")
    built = tiny.built(tmp_path, "train.dtype='bfloat16'", *sets)
    gain = built.model.stack.blocks[0].mixer_residual.pre
    for index in range(5):
        take(built, [feed(built)], index)
    change = np.abs(np.array(gain.weight) - 1)
    assert np.median(change) > 1e-4
    assert change.max() < 1e-3
    assert (np.array(gain.weight.astype(mx.bfloat16).astype(mx.float32)) == 1).all()


def test_small_gradients_survive_float16_by_its_scale(tmp_path):
    """A gradient 2^-30 of the usual one is 0 in float16, and not once it is scaled."""
    built = tiny.built(tmp_path, "train.dtype='float16'", "train.clip={kind='none'}")
    plain = tiny.built(tmp_path, "train.clip={kind='none'}")
    objective = built.step.loss.objective

    def small(models, batch, ctx):
        out = objective(models, batch, ctx)
        out.total = out.total * 2.0**-30
        return out

    for each in (built, plain):
        each.step.loss.objective = small
    norm, expected = (take(b, [feed(b)])["grad_norm"] for b in (built, plain))
    assert expected > 0
    assert norm == pytest.approx(expected, rel=0.1)


def test_the_scale_halves_at_an_overflow_and_training_recovers(tmp_path):
    built = tiny.built(tmp_path, "train.dtype='float16'")
    first = built.step.train_state.scaler.scale.item()
    assert take(built, [feed(built)])["finite"]
    before = tiny.leaves(built.model.parameters())
    for index in (1, 2):
        assert not take(built, [poisoned(built)], index)["finite"]
    assert built.step.train_state.scaler.scale.item() == first / 4
    assert tiny.same(built.model.parameters(), before)
    found = [take(built, [feed(built)], i) for i in range(3, 9)]
    assert all(m["finite"] for m in found)
    assert found[-1]["loss"] < found[0]["loss"]
    assert built.step.train_state.scaler.scale.item() == first / 4


def test_a_scale_that_is_too_large_finds_its_way_down(tmp_path):
    """A real overflow, not an injected one: the scaled gradient leaves float16's range."""
    built = tiny.built(tmp_path, "train.dtype='float16'")
    built.step.train_state.scaler.state["scale"] = mx.array(2.0**24)
    before = tiny.leaves(built.model.parameters())
    found = [take(built, [feed(built)], i)["finite"] for i in range(24)]
    skipped = found.count(False)
    assert 0 < skipped < 12
    assert found[0] == found[1] == 0
    assert found.count(True) > 12
    assert built.step.train_state.scaler.scale.item() == 2.0 ** (24 - skipped)
    assert not tiny.same(built.model.parameters(), before)


def learned(built):
    """All that a step reads and writes, but for the clock of the run, which goes on."""
    found = tiny.leaves(built.step.state[:-1])
    return {name: array for name, array in found.items() if not name.endswith("progress")}


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("sets", [(), ("train.accumulate=2",)], ids=["fused", "accumulated"])
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, value, sets):
    """Not weights, moments, the schedule's count nor the average; the next step goes on."""
    built = tiny.built(tmp_path, "train.ema=0.9", *sets)
    ever = [feed(built)] * (len(sets) + 1)
    take(built, ever)
    before = learned(built)
    metrics = take(built, [*ever[1:], poisoned(built, value)], 1)
    assert not metrics["finite"]
    now = learned(built)
    assert now.keys() == before.keys()
    assert all(now[name].tobytes() == before[name].tobytes() for name in before)
    assert take(built, ever, 2)["finite"]
    after = learned(built)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert any("average" in name for name in changed)
    assert {name for name in before if name.endswith("step")} <= changed


def test_weights_that_sum_to_nothing_change_nothing(tmp_path):
    built = tiny.built(tmp_path)
    before = tiny.leaves(built.step.state[:-1])
    assert not take(built, [poisoned(built, 0.0)])["finite"]
    assert tiny.same(built.step.state[:-1], before)


def test_skipped_steps_are_counted_and_left_out_of_the_loss(tmp_path, monkeypatch):
    tiny.spoil(monkeypatch, {1, 2})
    result = tiny.run(tmp_path, "log.every=3", name="a")
    assert result.reason == "finished"
    assert result.progress.skipped == 2
    assert tiny.records(result, "skipped") == [(3, 2), (6, 2), (6, 2)]
    losses = [loss for _, loss in tiny.records(result, "train_loss")]
    assert all(np.isfinite(losses))


def test_a_run_can_be_told_to_stop_at_a_gradient_that_is_not_finite(tmp_path, monkeypatch):
    tiny.spoil(monkeypatch, {2})
    result = tiny.run(tmp_path, "train.nonfinite='stop'", name="a")
    assert "step 3 is not finite" in result.reason
    assert result.progress.step == 3
    assert result.folder.newest().name == "step-000003"


def test_a_run_that_only_skips_says_so_in_place_of_a_checkpoint(tmp_path, monkeypatch):
    tiny.spoil(monkeypatch, range(100))
    with pytest.raises(ValueError, match="None of the 6 steps had a finite gradient"):
        tiny.run(tmp_path, name="a")


def test_float16_may_skip_until_its_scale_fits(tmp_path, monkeypatch):
    """Overflows at the start are how the scale is found, not a run in vain."""
    tiny.spoil(monkeypatch, range(4))
    sets = ("train.dtype='float16'", "checkpoint.every=2")
    result = tiny.run(tmp_path, *sets, name="a")
    assert result.reason == "finished"
    assert result.progress.skipped == 4


def test_evaluation_in_low_precision_leaves_the_masters(tmp_path):
    built = tiny.built(tmp_path, "train.dtype='bfloat16'", "train.ema=0.5")
    take(built, [feed(built)])
    before = tiny.leaves(built.step.state[:-1])
    built.evaluator([feed(built)])
    assert tiny.same(built.step.state[:-1], before)
    assert np.isfinite(built.model(feed(built)["tokens"][:, :-1], Context()).sum().item())
