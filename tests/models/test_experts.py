"""Mixtures with slots in a model: groups, drops, balance over layers, and refusals."""

import mlx.core as mx
import numpy as np
import pytest
from contract.ffns import GLU, MOE, ROUTER
from contract.suite import DIM, parse, randomize

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.assembly.checks import check_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context, Cursor, Layout
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.layers.ffns.capacity import group_count
from mlx_transformers.objectives.chunked_loss import with_aux

SWITCH = ROUTER | {"top_k": 1, "normalize": False}


def built(**fields: object):  # type: ignore[no-untyped-def]
    return randomize(parse("ffn", MOE | {"router": SWITCH} | fields).build(DIM), 0)


def training() -> Context:
    return Context(key=mx.random.key(0))


def tokens(batch: int = 2, length: int = 8) -> mx.array:
    return mx.random.normal((batch, length, DIM), key=mx.random.key(1))


def test_training_drops_tokens_beyond_the_slots_and_counts_them() -> None:
    x, all_of_them, few = tokens(), built(), built(slots={"factor": 0.5})
    ctx = training()
    y, whole = np.asarray(few(x, ctx)), np.asarray(all_of_them(x, Context()))
    dropped = np.abs(y).max(axis=-1) == 0
    assert 0 < dropped.sum() < dropped.size
    np.testing.assert_allclose(y[~dropped], whole[~dropped], atol=1e-5)
    assert float(ctx.collected.stats["dropped"]) == pytest.approx(dropped.mean())
    np.testing.assert_allclose(few(x, Context()), whole, atol=1e-6)


def test_padding_takes_no_slot() -> None:
    x, layer = tokens(), built(slots={"factor": 1.0, "eval_factor": 1.0})
    valid = mx.arange(8)[None] >= mx.array([[3], [0]])
    y = layer(x, Context(Layout(valid=valid)))
    assert np.abs(np.asarray(y[0, :3])).max() == 0
    noisy = mx.where(valid[..., None], x, 5.0)
    np.testing.assert_allclose(layer(noisy, Context(Layout(valid=valid))), y, atol=1e-6)


def test_padding_takes_no_place_of_a_capacity() -> None:
    layer, x = built(capacity=2), tokens()
    alone = layer(x[:1, 3:], Context())
    padded = mx.concatenate([mx.repeat(x[:1, 3:4], 3, axis=1), x[:1, 3:]], axis=1)
    valid = mx.arange(8)[None] >= 3
    after = layer(padded, Context(Layout(valid=valid)))[:, 3:]
    np.testing.assert_allclose(after, alone, atol=1e-6)
    step = layer(padded, Context(cursor=Cursor(mx.array(0), pad=mx.array([3]))))[:, 3:]
    np.testing.assert_allclose(step, alone, atol=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid", "sparse_mixer"])
def test_padding_is_no_load_of_an_expert(kind: str) -> None:
    fields = {"kind": kind, "top_k": 2} | ({"normalize": True} if kind == "sigmoid" else {})
    router = randomize(parse("router", fields).build(DIM, 4), 0)
    x = tokens(1)
    padded = mx.concatenate([x, mx.ones((1, 5, DIM))], axis=1)
    alone, ctx = Context(), Context(Layout(valid=mx.arange(13)[None] < 8))
    router(x, alone)
    router(padded, ctx)
    loads = [each.collected.stats["expert_load"] for each in (alone, ctx)]
    np.testing.assert_allclose(loads[0], loads[1], atol=1e-6)


def test_groups_span_rows_and_divide_all_tokens() -> None:
    assert [group_count(24, size) for size in (24, 100, 10, 7)] == [1, 1, 3, 4]
    x = tokens()
    one = built(slots={"factor": 0.5, "group_size": 16})(x, training())
    flat = built(slots={"factor": 0.5})(x.reshape(1, 16, DIM), training())
    np.testing.assert_allclose(one.reshape(1, 16, DIM), flat, atol=1e-6)


def test_gates_of_kept_choices_sum_to_one_after_dropping() -> None:
    fields = {"router": ROUTER | {"normalize": False}, "expert": GLU}
    layer = built(**fields, slots={"factor": 0.5, "renormalize": True})
    for name in ("gate", "up", "down"):
        weight = layer.experts[name].weight
        layer.experts[name].weight = mx.repeat(weight[:1], len(weight), axis=0)
    x = tokens()
    y, whole = (np.asarray(layer(x, ctx)) for ctx in (training(), Context()))
    single = np.asarray(built(**fields)(x, Context()))
    kept = np.abs(y).max(axis=-1) > 0
    assert 0 < kept.sum() < kept.size
    ratio = y[kept] / whole[kept]
    assert np.allclose(ratio, ratio[:, :1], rtol=1e-3)  # one expert's output, scaled
    assert single.shape == y.shape


def test_a_loss_over_layers_is_that_of_their_mean_load() -> None:
    ctx, found = Context(), []
    for seed in (1, 2):
        layer = randomize(
            parse("router", SWITCH | {"balance_loss": 0.5, "balance_over": "layers"}).build(DIM, 4),
            seed,
        )
        one = ctx.collected.for_layer()
        layer(tokens(), Context(collected=one))
        (sums,) = one.router_sums.values()
        found.append(np.asarray(sums))
        ctx.collected.merge(one.side_outputs(), seed)
    load, probs = (np.mean([each[i] for each in found], axis=0) for i in (0, 1))
    loss = with_aux(mx.array(0.0), mx.array(1.0), {}, ctx)
    assert float(loss.total) == pytest.approx(4 * (load * probs).sum(), rel=1e-5)
    assert "balance" in loss.parts


SEES_LATER = {
    "expert_choice": ("ffn", {"n_experts": 2, "expert": GLU}),
    "soft_moe": ("ffn", {"n_experts": 2, "expert": GLU}),
    "fourier": ("mixer", {}),
    "nystrom": ("mixer", {"n_heads": 4, "n_landmarks": 8}),
    "linformer": ("mixer", {"n_heads": 4, "rank": 8, "length": 256}),
}


@pytest.mark.parametrize("kind", SEES_LATER)
def test_a_kind_that_sees_later_tokens_is_refused_where_the_next_is_predicted(kind: str) -> None:
    slot, fields = SEES_LATER[kind]
    recipe = load_recipe("recipes/llama_tiny.toml")
    block = recipe.model.block.model_copy(update={slot: parse(slot, {"kind": kind} | fields)})
    model = recipe.model.model_copy(update={"block": block})
    with pytest.raises(RecipeError, match=f"kind '{kind}' computes each output from later"):
        check_model(recipe.model_copy(update={"model": model}))


def test_an_expert_cannot_take_more_tokens_than_there_are() -> None:
    config = parse("ffn", {"kind": "expert_choice", "n_experts": 2, "factor": 3.0, "expert": GLU})
    with pytest.raises(RecipeError, match=r"factor = 3\.0 exceeds ffn\.n_experts = 2"):
        config.build(DIM)


def test_a_capacity_is_given_once() -> None:
    with pytest.raises(ValueError, match="set one of the two"):
        parse("ffn", MOE | {"capacity": 2, "slots": {"factor": 1.0}})
