"""What every row buys."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.tree import cast

from .rows import ALL, ROWS, STEPPING
from .suite import BATCH, LENGTH, TABLES, Row, Subject, difference, flat_state, round_trip

every_row = pytest.mark.parametrize("row", ROWS, ids=str)
every_stepping_row = pytest.mark.parametrize("row", STEPPING, ids=str)

ALONE = [
    row
    for row in ROWS
    if row.slot in ("mixer", "ffn", "block")
    and not row.whole
    and not row.config.get("qk_norm_last")  # a gain behind the rotation makes positions absolute
    and not (row.kind == "local_attention" and not row.config.get("exact_window"))
    and row.config.get("pattern") != "fixed"  # blocks are counted from the start of the row
]
"""Those for which only distances between positions count."""

EXACT = 2e-5
"""What float32 sums in another order may differ by, at values near 1."""


def gradients(subject: Subject, x: mx.array, key: mx.array | None = None) -> dict[str, mx.array]:
    """Of a random projection of the output, auxiliary losses added."""
    params = subject.trainable_parameters()
    if not tree_flatten(params):
        return {}

    def loss(params: Any) -> mx.array:
        subject.update(params)
        ctx = Context(key=key)
        y = subject(x, ctx).astype(mx.float32)
        direction = mx.random.normal(y.shape, key=mx.random.key(5))
        return (y * direction).sum() + sum(ctx.collected.aux.values())

    _, grads = mx.value_and_grad(loss)(params)
    subject.update(params)
    return dict(tree_flatten(grads))


@every_row
def test_the_shape_is_what_the_slot_says(row: Row) -> None:
    subject = row.subject()
    y = subject(subject.inputs(), Context())
    assert y.shape == (BATCH, LENGTH, subject.width)
    assert y.dtype == mx.float32


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bf16", "fp16"])
@every_row
def test_half_precision_is_kept_and_near_the_truth(row: Row, dtype: mx.Dtype) -> None:
    subject = row.subject()
    x = subject.inputs()
    truth = np.asarray(subject(x, Context()))
    subject.update(cast(subject.parameters(), dtype))
    y = subject(x if subject.tokens else x.astype(dtype), Context())
    assert y.dtype == (mx.float32 if subject.fp32 else dtype)
    # The median, since a router may choose otherwise for a token on the edge.
    error = np.median(np.abs(np.asarray(y.astype(mx.float32)) - truth))
    assert error < (0.05 if dtype == mx.bfloat16 else 0.01) * truth.std()
    assert all(g.dtype == dtype for g in gradients(subject, x).values())


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@every_row
def test_an_output_depends_on_the_declared_inputs_and_on_no_other(row: Row, causal: bool) -> None:
    subject = row.subject()
    original = subject.inputs(batch=1)
    other = subject.disturb(original)
    # Row s of the batch has another input at position s; the last row is the original.
    at = mx.arange(LENGTH + 1)[:, None] == mx.arange(LENGTH)[None]
    x = mx.where(at if subject.tokens else at[..., None], other, original)
    y = subject(x, Context(Layout(causal=causal)))
    changed = np.asarray(mx.abs(y - y[LENGTH:]).max(axis=-1)[:LENGTH]) > EXACT
    for s in range(LENGTH):
        for t in range(LENGTH):
            declared = row.depends(t, s, causal)
            assert changed[s, t] == declared, f"output {t} and input {s}"


@every_row
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(row: Row) -> None:
    subject = row.subject()
    for name, g in gradients(subject, subject.inputs()).items():
        assert bool(mx.isfinite(g).all()), name
        silent = name.endswith(row.silent) if row.silent else False
        assert (float(mx.abs(g).max()) < 1e-4) == silent, name


@every_row
def test_rows_of_the_batch_are_independent(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs(batch=3)
    together = subject(x, Context())
    for i in range(3):
        assert difference(together[i : i + 1], subject(x[i : i + 1], Context())) < EXACT


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.pads], ids=str)
def test_padding_on_the_right_changes_nothing_before_it(row: Row, causal: bool) -> None:
    subject = row.subject()
    x = subject.inputs()
    padded = mx.concatenate([x, subject.inputs(length=5, seed=3)], axis=1)
    segments = mx.array([[0] * LENGTH + [1] * 5] * BATCH)
    alone = subject(x, Context(Layout(causal=causal)))
    empty = subject(padded, Context(Layout(causal=causal, valid=segments == 0)))
    assert difference(empty[:, :LENGTH], alone) < EXACT
    if row.whole:
        return
    marked = subject(padded, Context(Layout(causal=causal, segments=segments)))
    assert difference(marked[:, :LENGTH], alone) < EXACT
    if causal:
        assert difference(subject(padded, Context())[:, :LENGTH], alone) < EXACT


@pytest.mark.parametrize("row", ALONE, ids=str)
def test_a_later_document_and_one_behind_padding_are_as_if_alone(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()
    longer = mx.concatenate([subject.inputs(length=4, seed=3), x], axis=1)
    segments = mx.array([[0] * 4 + [1] * LENGTH] * BATCH)
    alone = subject(x, Context())
    packed = subject(longer, Context(Layout(segments=segments)))
    assert difference(packed[:, 4:], alone) < EXACT
    padded = subject(longer, Context(Layout(valid=segments == 1)))
    assert difference(padded[:, 4:], alone) < EXACT


@every_row
def test_a_forward_writes_nothing_on_the_module(row: Row) -> None:
    subject = row.subject()
    before, trainable = flat_state(subject), tree_flatten(subject.trainable_parameters())
    attributes = {name: set(vars(m)) | set(m) for name, m in subject.named_modules()}
    y = subject(subject.inputs(), Context(key=mx.random.key(0)))
    mx.eval(y)
    after = flat_state(subject)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert [n for n, _ in trainable] == [n for n, _ in tree_flatten(subject.trainable_parameters())]
    assert attributes == {name: set(vars(m)) | set(m) for name, m in subject.named_modules()}


@every_row
def test_a_module_is_still_the_dictionary_that_mlx_takes_it_for(row: Row) -> None:
    for module in row.bare().modules():
        for name in ("keys", "values", "items", "get", "update", "pop"):
            assert getattr(type(module), name) is getattr(nn.Module, name), (type(module), name)


@every_row
def test_saved_weights_give_the_same_output_when_loaded(row: Row, tmp_path: Path) -> None:
    subject, other = row.subject(seed=0), row.subject(seed=1)
    x = subject.inputs()
    y = subject(x, Context())
    if flat_state(subject):
        assert difference(y, other(x, Context())) > EXACT
        subject.save_weights(str(tmp_path / "weights.safetensors"))
        other.load_weights(str(tmp_path / "weights.safetensors"))
    assert mx.array_equal(y, other(x, Context()))


@pytest.mark.parametrize("row", ALL, ids=str)
def test_a_config_survives_the_way_through_data_and_json(row: Row) -> None:
    config = row.parse()
    assert round_trip(config) == config
    assert config.model_dump().items() >= {"kind": row.kind}.items() or row.slot in TABLES


@every_row
def test_dropout_is_off_without_a_key_and_drawn_from_the_key(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()

    def run(seed: int | None) -> mx.array:
        return subject(x, Context(key=None if seed is None else mx.random.key(seed)))

    # Scheduled sampling draws too: the model's own tokens.
    drops = any(
        getattr(m, "dropout", 0) or getattr(m, "weight_drop", 0) or hasattr(m, "curve")
        for m in subject.modules()
    )
    assert mx.array_equal(run(None), run(None))
    assert mx.array_equal(run(1), run(1))
    assert bool(mx.array_equal(run(1), run(2))) != drops
    assert bool(mx.array_equal(run(1), run(None))) != drops


@pytest.mark.parametrize("chunks", [[1] * LENGTH, [3, 1, 4, 1]], ids=str)
@every_stepping_row
def test_steps_over_time_give_the_whole_sequence(row: Row, chunks: list[int]) -> None:
    subject = row.subject()
    x = subject.inputs()
    whole = subject(x, Context())
    state, start, outs = subject.init_state(BATCH, LENGTH), 0, []
    for n in chunks:
        y, state = subject.step(x[:, start : start + n], state)
        outs.append(y)
        start += n
    assert difference(mx.concatenate(outs, axis=1), whole) < EXACT


@every_stepping_row
def test_a_step_leaves_the_state_it_was_given(row: Row) -> None:
    subject = row.subject()
    x = subject.inputs()
    _, state = subject.step(x[:, :4], subject.init_state(BATCH, LENGTH))
    kept = [(name, mx.array(value)) for name, value in tree_flatten(state)]
    mx.eval(kept)
    first, _ = subject.step(x[:, 4:6], state)
    again, _ = subject.step(x[:, 4:6], state)
    assert mx.array_equal(first, again)
    assert all(
        mx.array_equal(a, b) for (_, a), (_, b) in zip(kept, tree_flatten(state), strict=True)
    )


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=["bf16", "fp16"])
@every_stepping_row
def test_a_step_keeps_the_dtypes_of_weights_and_state(row: Row, dtype: mx.Dtype) -> None:
    subject = row.subject()
    subject.update(cast(subject.parameters(), dtype))
    x = subject.inputs()
    state = subject.init_state(BATCH, LENGTH, dtype)
    y, after = subject.step(x if subject.tokens else x.astype(dtype), state)
    assert y.dtype == dtype

    def kinds(tree: Any) -> list[Any]:
        return [(name, value.dtype, value.shape) for name, value in tree_flatten(tree)]

    assert kinds(after) == kinds(state)
