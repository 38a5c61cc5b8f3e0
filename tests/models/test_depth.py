"""Blocks that run on some tokens, layers that are skipped, and losses at every layer."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from contract.blocks import BLOCK
from contract.mixers import HEADS
from contract.models import LLAMA
from contract.suite import DIM, MAX_LEN, VOCAB, difference, parse, randomize
from mlx.utils import tree_flatten

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.layers.counts import count
from mlx_transformers.objectives.early_exit import layer_weights

ROUTED = {"block": BLOCK | {"route": {"capacity": 0.5}}}
TOKENS = mx.array(np.random.default_rng(0).integers(0, VOCAB, (3, 10)).astype(np.int32))


def model(**fields: Any) -> Any:
    return randomize(parse("model", LLAMA | fields).build(VOCAB), 0)


def routed_block(**fields: Any) -> Any:
    block = parse("block", BLOCK | {"route": {"capacity": 0.4} | fields})
    return randomize(block.build(DIM, MAX_LEN), 0)


def test_training_runs_the_block_on_the_best_tokens_alone() -> None:
    block, x = routed_block(), mx.random.normal((1, 10, DIM), key=mx.random.key(0))
    ctx = Context(key=mx.random.key(1))
    y = block(x, ctx)
    scores = np.asarray(x[0] @ block.route.router.weight[0] + block.route.router.bias)
    best = np.sort(np.argsort(-scores)[:4])
    rows = x[:, mx.array(best)]
    plain = randomize(parse("block", BLOCK).build(DIM, MAX_LEN), 0)
    inner = plain(rows, Context(Layout(positions=mx.array(best)[None])))
    expected = np.array(x[0])
    expected[best] += scores[best, None] * np.asarray(inner - rows)[0]
    np.testing.assert_allclose(y[0], expected, atol=1e-5)
    assert set(ctx.collected.aux) == {"predictor"}


def test_a_predictor_that_knows_the_best_tokens_gives_the_output_of_training() -> None:
    block, x = routed_block(), mx.random.normal((2, 10, DIM), key=mx.random.key(0))
    whole = block(x, Context(key=mx.random.key(1)))
    scores = x @ block.route.router.weight[0] + block.route.router.bias
    for b in range(2):
        level = float(mx.sort(scores[b])[-4:-3][0] + mx.sort(scores[b])[-5:-4][0]) / 2
        block.route.predictor.weight = block.route.router.weight
        block.route.predictor.bias = block.route.router.bias - level
        assert difference(block(x[b : b + 1], Context()), whole[b : b + 1]) < 1e-5


@pytest.mark.parametrize("chunks", [[1] * 10, [4, 1, 5]], ids=str)
def test_decoding_a_routed_model_gives_the_whole_sequence(chunks: list[int]) -> None:
    routed = model(**ROUTED)
    whole, state, start, outs = routed(TOKENS), routed.init_state(3, 12), 0, []
    for n in chunks:
        y, state = routed.step(TOKENS[:, start : start + n], state)
        outs.append(y)
        start += n
    assert difference(mx.concatenate(outs, axis=1), whole) < 2e-5
    seen = state["blocks"][0]["seen"]
    assert 0 < int(seen[:, :10].sum()) < 30
    assert not bool(seen[:, 10:].any())


def test_left_padding_changes_nothing_in_a_routed_model() -> None:
    routed = model(**ROUTED)
    alone = routed(TOKENS[:1])
    padded = mx.concatenate([mx.zeros((1, 3), mx.int32), TOKENS[:1]], axis=1)
    y, _ = routed.step(padded, routed.init_state(1, 13, pad=mx.array([3])))
    assert difference(y[:, 3:], alone) < 2e-5


def test_padding_and_documents_of_a_routed_block_are_kept_apart() -> None:
    block, x = routed_block(), mx.random.normal((1, 10, DIM), key=mx.random.key(0))
    valid = mx.arange(10)[None] < 7
    layout = Layout(causal=False, valid=valid)
    y = block(x, Context(layout))
    assert difference(y[:, 7:], x[:, 7:]) == 0.0
    noisy = block(mx.where(valid[..., None], x, 3.0), Context(layout))
    assert difference(noisy[:, :7], y[:, :7]) < 1e-5
    segments = mx.array([[0] * 5 + [1] * 5])
    first = block(x, Context(Layout(segments=segments)))
    other = mx.where((segments == 0)[..., None], x + 1, x)
    second = block(other, Context(Layout(segments=segments)))
    assert difference(first[:, 5:], second[:, 5:]) < 1e-5


def test_every_parameter_of_a_routed_model_learns() -> None:
    routed = model(block=BLOCK | {"route": {"capacity": 0.5, "predictor_dim": 4}})

    def loss(params: Any) -> mx.array:
        routed.update(params)
        ctx = Context(key=mx.random.key(0))
        return routed(TOKENS, ctx).square().mean() + ctx.collected.aux["predictor"]

    for name, g in tree_flatten(mx.grad(loss)(routed.trainable_parameters())):
        assert bool(mx.isfinite(g).all()), name
        assert float(mx.abs(g).max()) > 0, name


def test_a_token_meets_a_share_of_a_routed_block() -> None:
    plain, routed = count(model()), count(model(**ROUTED))
    assert plain.active == plain.total
    assert routed.total - routed.active > 0.4 * (routed.total - routed.embedding) / 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block": BLOCK | {"route": {"capacity": 1.5}}}, "less than or equal to 1"),
        ({"block": BLOCK | {"route": {"capacity": 0}}}, "greater than 0"),
        (
            {"block": BLOCK | {"mixer": HEADS | {"window": 3}, "route": {"capacity": 0.5}}},
            "Use 'attention' without a window",
        ),
        (ROUTED | {"position": {"kind": "alibi"}}, "isn't built for blocks with route"),
    ],
    ids=["capacity above 1", "capacity 0", "window", "alibi"],
)
def test_what_a_routed_block_cannot_do_is_refused(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse("model", LLAMA | fields)


def test_layers_are_skipped_at_their_rate_and_never_in_evaluation() -> None:
    config = parse("depth", {"kind": "layer_drop", "rate": 0.5, "by": "row"})
    layers = config.build(DIM, 2)
    x = mx.zeros((400, 1, 1))
    y = layers(x, Context(key=mx.random.key(0)), 2, lambda i, h: h + 10**i)
    assert set(np.unique(y)) == {0.0, 1.0, 10.0, 11.0}
    for digit in (np.asarray(y) % 10, np.asarray(y) // 10):
        assert abs(digit.mean() - 0.5) < 0.1
    assert float(layers(x, Context(), 2, lambda i, h: h + 10**i).min()) == 11.0


def test_rates_grow_over_depth_and_time_as_layer_skip_has_them() -> None:
    config = {"kind": "layer_drop", "rate": 0.1, "over_depth": "exponential"}
    layers = parse("depth", config).build(DIM, 5)
    assert [layers.share(i, 5) for i in (0, 4)] == [0.0, 1.0]
    assert layers.share(2, 5) == pytest.approx(2**0.5 - 1)


def test_weights_of_layers_are_those_of_layer_skip() -> None:
    assert layer_weights(4, 0.5) == [0.0, 0.5, 1.5, 3 + 0.5 * (0 + 1 + 2)]


@pytest.mark.parametrize("curriculum", ["all", "rotational", "gradual"])
def test_the_loss_of_every_layer_is_a_weighted_mean(curriculum: str) -> None:
    objective = parse("objective", {"kind": "early_exit", "curriculum": curriculum}).build()
    deep = model(n_layers=4)
    batch = {"tokens": TOKENS}
    losses = []
    for n in range(1, 5):
        shorter = model(n_layers=4)
        shorter.stack.n_layers = n
        ctx = Context()
        clm = parse("objective", {"kind": "clm"}).build()
        shorter.stack.blocks = shorter.stack.blocks[:n]
        shorter.stack.n_distinct = n
        losses.append(float(clm({"model": shorter}, batch, ctx).total))
    weights = np.array(layer_weights(4, 1.0))
    found = objective({"model": deep}, batch, Context())
    assert float(found.parts["loss"]) == pytest.approx(losses[-1], rel=1e-5)
    assert float(found.total) == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-5)
    early = {"progress": mx.array(0.0)}
    trained = objective({"model": deep}, batch, Context(key=mx.random.key(0), scalars=early))
    if curriculum == "gradual":
        assert float(trained.total) == pytest.approx(losses[-1], rel=1e-5)
    if curriculum == "rotational":
        one = [(w * loss + weights[-1] * losses[-1]) / (w + weights[-1])
               for w, loss in zip(weights[:2], losses[:2], strict=True)]  # fmt: skip
        assert any(float(trained.total) == pytest.approx(each, rel=1e-5) for each in one)
