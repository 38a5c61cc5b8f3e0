"""The compiled step: accumulation, compilation, traces, clipping, averages, recomputation."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.trainer.dry_run import dry_run

from . import tiny

PLAIN = ("model.embed.dropout=0.0", "model.block.dropout=0.0")
"""Without dropout, whose masks belong to a batch and not to a row."""
SGD = ('optim={kind="sgd", learning_rate=0.5}', 'train.clip={kind="none"}')
"""Whose update is the gradient itself, so that weights tell of it without distortion."""


def batch(vocab, rows=4, seed=0, length=16):
    """Packed rows whose documents end where chance will: every row has another weight."""
    rng = np.random.default_rng(seed + 100)
    segments = np.cumsum(rng.random((rows, length + 1)) < 0.2, axis=1, dtype=np.int32)
    weights = (rng.random((rows, length)) < 0.7).astype(np.float32)
    found = {"tokens": tiny.tokens((rows, length + 1), vocab, seed)}
    return arrays(found | {"segments": segments, "weights": weights})


def arrays(batch):
    return {name: mx.array(value) for name, value in batch.items()}


def part(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


def vocab(built):
    return built.tokenizer.vocab_size


def train(built, batches, accumulate=1):
    """The scalar metrics of a step per batch."""
    found = []
    for index, each in enumerate(batches):
        rows = each["tokens"].shape[0] // accumulate
        micro = [part(each, slice(i * rows, (i + 1) * rows)) for i in range(accumulate)]
        found.append(built.step(micro, index))
        mx.eval(found[-1], built.step.state)
    return [
        {name: value.item() for name, value in each.items() if value.size == 1} for each in found
    ]


def distance(a, b):
    """Largest difference between two models' weights."""
    a, b = tiny.leaves(a.model.parameters()), tiny.leaves(b.model.parameters())
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def moved(a, b):
    return not tiny.same(a.model.parameters(), b.model.parameters())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_microbatches_are_one_batch_on_ragged_weights(tmp_path, accumulate):
    """The weights of the microbatches differ widely; a mean of means would be off by percents."""
    whole = tiny.built(tmp_path, *PLAIN, *SGD, "train.batch_size=8")
    rows = 8 // accumulate
    split = tiny.built(
        tmp_path, *PLAIN, *SGD, f"train.batch_size={rows}", f"train.accumulate={accumulate}"
    )
    batches = [batch(vocab(whole), rows=8, seed=s) for s in range(3)]
    expected, got = train(whole, batches), train(split, batches, accumulate)
    for a, b in zip(expected, got, strict=True):
        assert b["tokens"] == a["tokens"]
        assert b["loss"] == pytest.approx(a["loss"], abs=2e-6)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], abs=2e-6)
    assert distance(whole, split) < 2e-6
    assert moved(whole, tiny.built(tmp_path, *PLAIN, *SGD))


def test_only_the_balance_loss_of_experts_sees_how_a_batch_was_cut(tmp_path):
    """It is a product of two means over a microbatch; all other parts are sums over tokens."""

    def run(balance, accumulate):
        sets = (
            f"train.batch_size={8 // accumulate}",
            f"train.accumulate={accumulate}",
        )
        built = tiny.built(tmp_path, *PLAIN, *SGD, tiny.moe(balance), *sets)
        tokens = tiny.tokens((8, 17), vocab(built))
        return built, train(built, [arrays({"tokens": tokens})], accumulate)[0]

    (whole, a), (split, b) = run(0.0, 1), run(0.0, 2)
    assert b["router_z"] == pytest.approx(a["router_z"], abs=1e-7)
    assert distance(whole, split) < 2e-6
    (_, a), (_, b) = run(0.01, 1), run(0.01, 2)
    assert b["loss"] == pytest.approx(a["loss"], abs=2e-6)
    assert b["balance"] != pytest.approx(a["balance"], rel=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "sets",
    [("train.ema=0.9",), (tiny.moe(),), ("train.accumulate=2", "train.dtype='float16'")],
    ids=["dropout_and_average", "experts", "float16"],
)
def test_compiled_steps_are_eager_steps(tmp_path, sets):
    accumulate = 2 if "train.accumulate=2" in sets else 1
    compiled = tiny.built(tmp_path, *sets)
    batches = [batch(vocab(compiled), 4 * accumulate, seed=s) for s in range(4)]
    expected = train(compiled, batches, accumulate)
    mx.disable_compile()
    try:
        eager = tiny.built(tmp_path, *sets)
        got = train(eager, batches, accumulate)
    finally:
        mx.enable_compile()
    assert compiled.step.traces == compiled.step.declared_traces < eager.step.traces
    tolerance = 1e-6 if compiled.step.train_state.scaler is None else 1e-3
    for a, b in zip(expected, got, strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    assert distance(compiled, eager) < tolerance


def test_dropout_differs_from_step_to_step_and_not_from_run_to_run(tmp_path):
    frozen = ("optim.learning_rate=1e-30", "optim.weight_decay=0.0")
    built = tiny.built(tmp_path, *frozen)
    same = [batch(vocab(built))] * 3
    losses = [m["loss"] for m in train(built, same)]
    assert len(set(losses)) == 3
    assert [m["loss"] for m in train(tiny.built(tmp_path, *frozen), same)] == losses


def test_microbatches_of_a_step_have_masks_of_their_own(tmp_path):
    built = tiny.built(tmp_path, "train.accumulate=2", "train.batch_size=2")
    one = part(batch(vocab(built)), slice(0, 2))
    keys = mx.random.split(mx.random.key((built.recipe.train.seed << 32) | 0), 2)
    losses = [
        built.step.loss(built.model.trainable_parameters(), one, Context(key=key))
        .parts["loss"]
        .item()
        for key in keys
    ]
    weight = one["weights"] * (one["segments"][:, 1:] == one["segments"][:, :-1])
    metrics = built.step([one, one], 0)
    assert losses[0] != losses[1]
    assert metrics["loss"].item() == pytest.approx(sum(losses) / 2 / weight.sum().item(), abs=1e-5)


@pytest.mark.compiled
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_is_traced_once_for_each_of_its_functions(tmp_path, accumulate):
    built = tiny.built(tmp_path, f"train.accumulate={accumulate}", "train.ema=0.9")
    train(built, [batch(vocab(built), 2 * accumulate)], accumulate)
    functions = [built.step._first, built.step._more, built.step._apply, built.step._fused]
    expected = [0, 0, 0, 1] if accumulate == 1 else [1, 1, 1, 0]
    assert [f.traces for f in functions] == expected
    train(built, [batch(vocab(built), 2 * accumulate, s) for s in range(20)], accumulate)
    assert [f.traces for f in functions] == expected
    assert built.step.traces == built.step.declared_traces


def test_accumulation_holds_the_activations_of_one_microbatch(tmp_path):
    """Eight microbatches peak where two do."""
    limit = mx.set_memory_limit(1)  # evaluation runs no further ahead: the peak is the least one
    try:
        two, eight = (peak(tmp_path, accumulate) for accumulate in (2, 8))
    finally:
        mx.set_memory_limit(limit)
    # Held all at once they would take four times as much.
    assert eight < 1.25 * two


def peak(folder, accumulate):
    sets = ("model.max_seq_len=128", "train.seq_len=128", f"train.accumulate={accumulate}")
    built = tiny.built(folder, *sets)
    micro = [batch(vocab(built), 8, seed, 128) for seed in range(accumulate)]
    mx.eval(micro, built.step.state)
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(built.step(micro, 0), built.step.state)
    return mx.get_peak_memory() - held


def test_the_gradient_norm_and_the_clipped_update_follow_from_the_gradient(tmp_path):
    clip = 'train.clip={kind="norm", max_norm=0.25}'
    built = tiny.built(tmp_path, *PLAIN, SGD[0], clip)
    model, one = built.model, batch(vocab(built))
    before = tiny.leaves(model.parameters())
    params = model.trainable_parameters()

    def mean(params):
        loss = built.step.loss(params, one, Context(key=mx.random.key(0)))
        return loss.total / loss.weight

    grads = tiny.leaves(mx.grad(mean)(params))
    model.update(params)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads.values()))
    metrics = train(built, [one])[0]
    assert norm > 0.25
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    after = tiny.leaves(model.parameters())
    for name, g in grads.items():
        expected = before[name] - 0.5 * g * 0.25 / norm
        np.testing.assert_allclose(after[name], expected, atol=2e-6, err_msg=name)


def test_adaptive_clipping_bounds_every_row_by_its_own_weights(tmp_path):
    clip = 'train.clip={kind="adaptive", factor=0.01}'
    built = tiny.built(tmp_path, *PLAIN, SGD[0], clip)
    before = tiny.leaves(built.model.parameters())
    train(built, [batch(vocab(built))])
    after = tiny.leaves(built.model.parameters())
    largest = 0.0
    for name, w in before.items():
        step = np.linalg.norm(after[name] - w, axis=-1)
        bound = 0.5 * 0.01 * np.maximum(np.linalg.norm(w, axis=-1), 1e-3)
        assert (step <= bound * 1.001 + 1e-7).all(), name
        largest = max(largest, float((step / bound).max()))
    assert largest == pytest.approx(1, abs=0.02)


def test_the_loss_is_the_nats_per_weighted_token(tmp_path):
    built = tiny.built(tmp_path, *PLAIN, "objective.label_smoothing=0.1")
    one = batch(vocab(built))
    logits = np.array(
        built.model(one["tokens"][:, :-1], Context(Layout(segments=one["segments"][:, :-1])))
    )
    one_np = {name: np.array(value) for name, value in one.items()}
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, one_np["tokens"][:, 1:, None], -1)[..., 0]
    inside = one_np["segments"][:, 1:] == one_np["segments"][:, :-1]
    weights = one_np["weights"] * inside
    metrics = train(built, [one])[0]
    assert metrics["loss"] == pytest.approx((nll * weights).sum() / weights.sum(), abs=1e-5)
    assert metrics["tokens"] == weights.sum()
    assert 0 < weights.sum() < weights.size / 1.2


def test_the_average_follows_its_formula(tmp_path):
    built = tiny.built(tmp_path, "train.ema=0.75")
    average = tiny.leaves(built.model.parameters())
    for index in range(4):
        train(built, [batch(vocab(built), seed=index)])
        for name, value in tiny.leaves(built.model.parameters()).items():
            average[name] = 0.75 * average[name] + 0.25 * value
    for name, value in tiny.leaves(built.step.train_state.ema.average).items():
        np.testing.assert_allclose(value, average[name], atol=1e-6, err_msg=name)
    assert not tiny.same(built.step.train_state.ema.average, built.model.parameters())


@pytest.mark.parametrize("sets", [(), (tiny.moe(),)], ids=["dense", "experts"])
def test_recomputed_blocks_train_bit_by_bit_as_kept_ones(tmp_path, sets):
    """With dropout: the recomputation must draw the same masks."""
    runs = []
    for recompute in ("'none'", "'all'", "[1]"):
        built = tiny.built(tmp_path, f"train.recompute={recompute}", *sets)
        metrics = train(built, [batch(vocab(built), seed=s) for s in range(3)])
        runs.append((metrics, built))
    for metrics, built in runs[1:]:
        assert metrics == runs[0][0]
        assert tiny.same(built.model.parameters(), runs[0][1].model.parameters())


def test_a_forward_leaves_nothing_on_the_model(tmp_path):
    built = tiny.built(tmp_path, tiny.moe(), "train.ema=0.9", "train.recompute='all'")
    before = sorted(tiny.leaves(built.model.state))
    one = batch(vocab(built))
    train(built, [one, one])
    built.evaluator([one])
    assert sorted(tiny.leaves(built.model.state)) == before
    assert sorted(tiny.leaves(built.model.parameters())) == before


@pytest.mark.compiled
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dry_run_leaves_no_trace(tmp_path, accumulate, dtype):
    """Neither in weights, moments, average nor scale; and the next step is not traced again."""
    sets = (f"train.accumulate={accumulate}", "train.ema=0.9", f"train.dtype='{dtype}'")
    tried, fresh = tiny.built(tmp_path, *sets), tiny.built(tmp_path, *sets)
    batches = [batch(vocab(tried), 4 * accumulate, s) for s in range(3)]
    micro = [part(batches[2], slice(4 * i, 4 * i + 4)) for i in range(accumulate)]
    before = tiny.leaves(tried.step.state[:-1])
    found = dry_run(tried.step, micro)
    assert found.unused_parameters == []
    assert found.compile_s > 0
    assert tiny.same(tried.step.state[:-1], before)
    traces = tried.step.traces
    assert train(tried, batches, accumulate) == train(fresh, batches, accumulate)
    assert tiny.same(tried.step.state[:-1], fresh.step.state[:-1])
    assert tried.step.traces == traces == tried.step.declared_traces


def test_the_dry_run_names_parameters_that_learn_nothing(tmp_path):
    built = tiny.built(tmp_path, "model.position={kind='learned'}", "model.max_seq_len=24")
    one = arrays({"tokens": tiny.tokens((4, 17), vocab(built))})
    assert dry_run(built.step, [one]).unused_parameters == []
    # a factor that starts at zero hides no gradients: it is nonzero after the first step
    built.model.stack.blocks[1].mixer.o.weight = mx.zeros((16, 16))
    built.model.stack.blocks[1].mixer.scale = 0.0
    built.step.rebuild()
    names = dry_run(built.step, [one]).unused_parameters
    assert set(names) == {f"stack.blocks.1.mixer.{name}.weight" for name in "qk"}


def test_the_dry_run_refuses_a_model_that_starts_broken(tmp_path):
    built = tiny.built(tmp_path)
    weight = built.model.stack.blocks[0].ffn.down.weight
    built.model.stack.blocks[0].ffn.down.weight = weight * float("nan")
    built.step.rebuild()
    with pytest.raises(ValueError, match="not a finite number"):
        dry_run(built.step, [batch(vocab(built))])
