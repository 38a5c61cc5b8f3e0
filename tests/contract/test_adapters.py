"""Adapters of a small model: they start as the base, switch off, merge, and train alone."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.layers.adapters.adapter import adapt as apply
from mlx_transformers.layers.adapters.merge import merge
from mlx_transformers.layers.adapters.shifted import ShiftedPosition
from mlx_transformers.layers.adapters.switch import Switch, adapter_dropout, adapters_off
from mlx_transformers.layers.adapters.weights import (
    base_weights,
    load_plain,
    own_weights,
    plain_weights,
)
from mlx_transformers.layers.positions.learned import Learned
from mlx_transformers.ops.xent import linear_cross_entropy
from mlx_transformers.rl.scoring import Scorer

from .adapters import ROWS, TOKENS, WIDE, adapted
from .models import BERT, T5, VLM
from .suite import Row, parse

ADDING = [row for row in ROWS if row.kind not in ("bitfit", "full")]
ALONE = ("prefix", "prompt", "bottleneck")
MERGING = [row for row in ADDING if row.name != "quantized" and row.kind not in ALONE]


def names(tree: object) -> set[str]:
    return {name for name, _ in tree_flatten(tree)}


def close(a: mx.array, b: mx.array, tolerance: float = 1e-5) -> bool:
    return bool(mx.abs(a - b).max() <= tolerance * mx.abs(b).max())


@pytest.mark.parametrize("row", ADDING, ids=str)
def test_an_adapted_model_starts_as_its_base_and_can_be_switched_off(row: Row) -> None:
    start, moved = adapted(row.parse(), moved=False), adapted(row.parse())
    plain = adapted(parse("adapt", {"kind": "bitfit"}), moved=False)(TOKENS)
    with adapters_off(moved), adapters_off(start):
        base = start(TOKENS)
        assert close(moved(TOKENS), base)
    assert row.name == "quantized" or close(base, plain)
    assert not close(moved(TOKENS), base, 1e-2)
    if row.kind not in ("prefix", "prompt") and "sums" not in row.name:
        assert close(start(TOKENS), base)


@pytest.mark.parametrize("row", ADDING, ids=str)
def test_a_head_is_frozen_unless_its_weight_is_trained(row: Row) -> None:
    model = adapted(row.parse())
    targets, weights = TOKENS[:, 1:], mx.ones((len(TOKENS), TOKENS.shape[1] - 1))

    def loss(params: dict, frozen: bool | None) -> mx.array:
        model.update(params)
        ctx = Context(key=mx.random.key(0))
        h, out = (
            model.hidden(model.embedded({"tokens": TOKENS[:, :-1]}, ctx), ctx),
            model.unembedding(),
        )
        h = h[:, -targets.shape[1] :].reshape(-1, h.shape[-1])
        rest = {
            "bias": out.bias,
            "softcap": out.softcap,
            "frozen": out.frozen if frozen is None else frozen,
        }
        return linear_cross_entropy(
            h, out.weight, targets.reshape(-1), weights.reshape(-1), **rest
        )[0]

    params = model.trainable_parameters()
    found, expected = (dict(tree_flatten(mx.grad(loss)(params, f))) for f in (None, False))
    model.update(params)
    assert model.unembedding().frozen or any("embed" in name or "head" in name for name in found)
    assert all(close(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("row", MERGING, ids=str)
def test_a_merged_model_is_a_plain_one_that_computes_the_same(row: Row) -> None:
    model = adapted(row.parse())
    expected, plain = model(TOKENS), names(parse("model", WIDE).build(13).parameters())
    merge(model)
    assert close(model(TOKENS), expected)
    assert names(model.parameters()) == plain


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_adapters_alone_have_a_gradient_and_are_saved(row: Row) -> None:
    model = adapted(row.parse())
    trained = model.trainable_parameters()

    def loss(params: dict) -> mx.array:
        model.update(params)
        with adapter_dropout(model, Context(key=mx.random.key(0))):
            return (model(TOKENS) ** 2).mean()

    grads = dict(tree_flatten(mx.grad(loss)(trained)))
    assert {name for name, g in grads.items() if mx.isfinite(g).all() and g.any()} == names(trained)
    own, base = names(own_weights(model)), set(base_weights(model))
    assert names(trained) <= own
    assert own | base == names(model.parameters())
    assert not own & base
    if row in ADDING:
        added = ("adapter", "adaptation", "prefix", "prompt")
        assert all(set(name.split(".")) & set(added) for name in own)


@pytest.mark.parametrize("row", [r for r in ROWS if r.kind in ALONE], ids=str)
def test_what_is_no_update_of_a_weight_cannot_be_merged(row: Row) -> None:
    with pytest.raises(RecipeError, match="can't be merged"):
        merge(adapted(row.parse()))


@pytest.mark.parametrize("row", ADDING, ids=str)
def test_an_adapted_model_decodes_as_it_reads_also_behind_padding(row: Row) -> None:
    model = adapted(row.parse())
    if row.name == "bottleneck of sums":  # its gate is a mean over the row
        return
    prompts = [[1, 5, 2, 0], [9, 4]]
    for alone in prompts:
        engine = Engine(model, sampling=Sampling(temp=0.0))
        engine.start([alone])
        tokens = [token for (token,) in engine.tokens(3)]
        for n, token in enumerate(tokens):
            assert token == model(mx.array([alone + tokens[:n]]))[0, -1].argmax().item()
    engine = Engine(model, sampling=Sampling(temp=0.0))
    engine.start(prompts)
    together = list(engine.tokens(3))
    assert [rows[-1] for rows in together] == tokens


@pytest.mark.parametrize("row", [r for r in ROWS if r.kind in ("dora", "bitfit")], ids=str)
def test_a_base_loaded_from_a_plain_model_starts_the_adapters_anew(row: Row) -> None:
    model, other = adapted(row.parse(), moved=False), parse("model", WIDE).build(13)
    load_plain(model, dict(tree_flatten(other.parameters())))
    assert close(model(TOKENS), other(TOKENS))
    assert set(plain_weights(model)) == names(other.parameters())


@pytest.mark.parametrize("table", ["ffn", "mixture"])
def test_experts_are_adapted_in_their_stacks(table: str) -> None:
    expert = {"kind": "mlp", "hidden_dim": 8, "activation": "silu", "bias": True}
    router = {"kind": "top_k", "top_k": 2, "normalize": True}
    ffn = {"kind": "moe", "n_experts": 4, "router": router, "expert": expert}
    block = WIDE["block"] | {"ffn": ffn if table == "mixture" else expert}
    model = adapted(parse("adapt", {"kind": "lora", "rank": 2}), WIDE | {"block": block})
    expected = model(TOKENS)
    merge(model)
    assert close(model(TOKENS), expected)


@pytest.mark.parametrize("kind", ["dora", "vera"])
def test_an_adapter_without_a_form_for_experts_names_the_key_that_leaves_them_out(
    kind: str,
) -> None:
    expert = {"kind": "mlp", "hidden_dim": 8, "activation": "silu"}
    router = {"kind": "top_k", "top_k": 2, "normalize": True}
    ffn = {"kind": "moe", "n_experts": 4, "router": router, "expert": expert}
    table = WIDE | {"block": WIDE["block"] | {"ffn": ffn}}
    with pytest.raises(RecipeError, match=r'adapt\.exclude = \["experts"\]'):
        adapted(parse("adapt", {"kind": kind, "rank": 2}), table)
    model = adapted(parse("adapt", {"kind": kind, "rank": 2, "exclude": ["experts"]}), table)
    assert model(TOKENS).shape[:2] == TOKENS.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": ["mixer.qq"]}, ("adapt.targets", "stack.blocks.0.mixer.q,")),
        ({"ranks": {"ffn.gate": 2}}, ("adapt.ranks", "ffn.gate")),
        ({"layers": [7]}, ("layer 7", "0 to 1")),
        ({"train": ["hed"]}, ("adapt.train", "'head'")),
        ({"exclude": ["all"]}, ("no layer with an adapter",)),
        ({"base_bits": 4, "base_group": 128}, ("base_group = 128", "smaller")),
    ],
    ids=str,
)
def test_what_adapts_nothing_is_an_error_that_names_the_nearest(change: dict, words: tuple) -> None:
    with pytest.raises(RecipeError) as error:
        adapted(parse("adapt", {"kind": "lora", **change}))
    assert all(word in str(error.value) for word in words), error.value


def test_a_model_without_biases_has_nothing_for_bitfit() -> None:
    plain = {"kind": "attention", "n_heads": 4}
    ffn = {"kind": "mlp", "hidden_dim": 64, "activation": "silu"}
    block = WIDE["block"] | {"mixer": plain, "ffn": ffn}
    with pytest.raises(RecipeError, match="no biases"):
        adapted(parse("adapt", {"kind": "bitfit"}), WIDE | {"block": block})


PROMPT = {"kind": "prompt", "length": 3}


def log_probs(model, tokens: mx.array) -> mx.array:
    logits = model(tokens)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def test_completions_behind_a_soft_prompt_are_scored_at_their_own_places() -> None:
    model = adapted(parse("adapt", PROMPT), WIDE | {"pool": {"kind": "scalar"}})
    found = Scorer(model, 2, temperature=1.0, valued=True)(np.array(TOKENS))
    expected = mx.take_along_axis(log_probs(model, TOKENS[:, :-1]), TOKENS[:, 1:, None], axis=-1)
    assert close(mx.array(found["logps"]), expected[..., 0])
    assert found["values"].shape == found["logps"].shape == (2, 5)


def test_masked_tokens_behind_a_soft_prompt_are_found_at_their_own_places() -> None:
    model = adapted(parse("adapt", PROMPT), BERT)
    places = mx.array([[1, 4], [0, 2]])
    weights = mx.put_along_axis(mx.zeros(TOKENS.shape), places, mx.ones(places.shape), axis=1)
    batch = {"tokens": TOKENS, "targets": TOKENS, "weights": weights, "types": 0 * TOKENS}
    batch["valid"] = mx.ones(TOKENS.shape, dtype=mx.bool_)
    objective = parse("objective", {"kind": "mlm"}).build()
    totals = [
        objective({"model": model}, {**batch, **more}, Context()).total
        for more in ({}, {"places": places})
    ]
    assert close(*totals)


def test_a_student_with_a_soft_prompt_learns_from_a_teacher_without_one() -> None:
    model = adapted(parse("adapt", PROMPT))
    teacher = adapted(parse("adapt", {"kind": "bitfit"}), moved=False)
    table = {"kind": "distill", "teacher": "t", "temperature": 1.0, "hard": 0.0}
    objective = parse("objective", table).build()
    loss = objective({"model": model, "teacher": teacher}, {"tokens": TOKENS}, Context())
    ours, theirs = (log_probs(m, TOKENS[:, :-1]) for m in (model, teacher))
    assert close(loss.total, (mx.exp(theirs) * (theirs - ours)).sum(), 1e-4)


LEARNED = {"position": {"kind": "learned"}}


@pytest.mark.parametrize(
    ("table", "context"),
    [
        (WIDE, 0),
        (WIDE | LEARNED, 3),
        (T5 | {"decoder": T5["decoder"] | LEARNED}, 3),
        (VLM | {"language": VLM["language"] | LEARNED}, 3),
    ],
    ids=["rope", "learned", "encoder-decoder", "vlm"],
)
def test_a_prefix_takes_its_places_from_a_table_of_positions(table: dict, context: int) -> None:
    model = parse("model", table).build(13)
    whole = model.max_seq_len
    apply(model, parse("adapt", {"kind": "prefix", "length": 3}))
    assert model.max_seq_len == whole - context
    if context:
        long = parse("adapt", {"kind": "prefix", "length": whole})
        with pytest.raises(RecipeError, match=f"adapt.length = {whole}"):
            apply(parse("model", table).build(13), long)


def test_shifted_positions_refuse_rows_that_end_beyond_the_table() -> None:
    switch = Switch()
    base = Learned().build(4, 8)
    shifted = ShiftedPosition(base, 3, switch)
    zeros = mx.zeros((1, 5, 4))
    assert (shifted.embed(zeros, Context())[0] == base.table.weight[3:]).all().item()
    with pytest.raises(RunError, match="no learned positions beyond 8"):
        shifted.embed(mx.zeros((1, 6, 4)), Context())
    switch.on = False
    assert shifted.embed(mx.zeros((1, 8, 4)), Context()).shape == (1, 8, 4)
