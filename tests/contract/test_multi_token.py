"""Multi-token prediction against its equations in NumPy, and what it must leave alone."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Context
from mlx_transformers.layers.hooks import Hooks

from . import reference
from .ffns import MOE, SIGMOID
from .models import BLOCK, LLAMA, LOSSES
from .suite import VOCAB, parse, randomize, weights_of
from .test_objectives import SEGMENTS, TOKENS, WEIGHTS, model_of

N = 2
AHEAD = LLAMA | {"ahead": {"kind": "mtp", "n": N}}
OBJECTIVE = {"kind": "multi_token", "weight": 0.4}


def loss_of(model: Any, batch: dict[str, Any], training: bool = False, **changes: Any) -> Any:
    arrays = {name: mx.array(value) for name, value in batch.items()}
    ctx = Context(key=mx.random.key(0) if training else None)
    return parse("objective", OBJECTIVE | changes).build()({"model": model}, arrays, ctx)


def expected(model: Any, weights: np.ndarray, segments: np.ndarray | None) -> list[float]:
    """Summed losses of the next token and of each further one: equations 21 to 24."""
    w, block = weights_of(model), AHEAD["block"]
    inputs, found = TOKENS[:, :-1], []
    h = reference.tower(inputs, w, AHEAD, None if segments is None else segments[:, :-1])
    kind, head = AHEAD["norm"], reference.below(w, "head")
    words, x = w["embed.table.weight"][inputs], h
    for k in range(N + 1):
        if k:
            step = reference.below(w, f"ahead.chain.{k - 1}")
            a = reference.norm(h[:, :-1], reference.below(step, "hidden_norm"), kind)
            b = reference.norm(words[:, k:], reference.below(step, "word_norm"), kind)
            matrix = np.concatenate([step["of_hidden.weight"], step["of_word.weight"]], axis=1)
            seen = None if segments is None else segments[:, : -1 - k]
            joined = np.concatenate([a, b], axis=-1) @ matrix.T
            h = reference.block(
                joined, reference.below(step, "block"), block, LLAMA["position"], seen
            )
            x = reference.norm(h, reference.below(step, "norm"), kind)
        logits = reference.vocabulary(x, head, AHEAD["head"], w["embed.table.weight"])
        counted = weights[:, k:].astype(np.float64)
        if segments is not None:
            counted = counted * (segments[:, 1 + k :] == segments[:, : -1 - k])
        found.append(reference.cross_entropy(logits, TOKENS[:, 1 + k :], counted)[0])
    return found


@pytest.mark.parametrize("packed", [False, True], ids=["one text", "packed"])
def test_the_loss_is_that_of_the_paper(packed: bool) -> None:
    model = model_of(AHEAD)
    segments = SEGMENTS if packed else None
    batch = {"tokens": TOKENS, "weights": WEIGHTS} | ({"segments": SEGMENTS} if packed else {})
    counted = WEIGHTS * (SEGMENTS[:, 1:] == SEGMENTS[:, :-1]) if packed else WEIGHTS
    first, *further = expected(model, counted, segments)
    loss = loss_of(model, batch)
    assert float(loss.parts["loss"]) == pytest.approx(first, rel=1e-5)
    for k, each in enumerate(further, 1):
        assert float(loss.parts[f"loss_{k}_ahead"]) == pytest.approx(each, rel=1e-5)
    assert float(loss.total) == pytest.approx(first + 0.4 / N * sum(further), rel=1e-5)
    assert float(loss.weight) == pytest.approx(counted.sum(), rel=1e-6)


def test_a_token_further_on_is_told_by_those_before_it_alone() -> None:
    model = model_of(AHEAD)
    inputs = TOKENS[:1, :-1]
    _, further = model.hidden_multi_token(mx.array(inputs), Context())
    for place in range(inputs.shape[1]):
        other = inputs.copy()
        other[0, place] = (other[0, place] + 1) % VOCAB
        _, changed = model.hidden_multi_token(mx.array(other), Context())
        for k, (one, two) in enumerate(zip(further, changed, strict=True), 1):
            differs = np.abs(np.array(one - two)).max(axis=-1)[0] > 1e-5
            # what tells the token after k others at place i has read the places up to i + k
            assert differs.tolist() == [i + k >= place for i in range(len(differs))]


def test_generation_and_the_loss_of_the_next_token_ignore_it() -> None:
    model, plain = model_of(AHEAD), parse("model", LLAMA).build(VOCAB)
    plain.update({k: v for k, v in model.parameters().items() if k != "ahead"})
    tokens = mx.array(TOKENS)
    assert mx.array_equal(model(tokens), plain(tokens))
    logits, _ = model.step(tokens, model.init_state(2, 16))
    same, _ = plain.step(tokens, plain.init_state(2, 16))
    assert mx.array_equal(logits, same)
    batch = {"tokens": mx.array(TOKENS)}
    clm = parse("objective", {"kind": "clm"}).build()({"model": plain}, batch, Context())
    assert float(loss_of(model, batch).parts["loss"]) == pytest.approx(float(clm.total), rel=1e-6)


def test_its_experts_add_their_losses_and_are_balanced() -> None:
    experts = {"ahead": {"kind": "mtp", "block": BLOCK | {"ffn": MOE | {"router": LOSSES}}}}
    lossy = randomize(parse("model", LLAMA | experts).build(VOCAB), 0)
    parts = loss_of(lossy, {"tokens": TOKENS}, training=True).parts
    assert set(parts) >= {"balance", "router_z"}
    router = SIGMOID | {"speed": 0.5}
    balanced = {"ahead": {"kind": "mtp", "block": BLOCK | {"ffn": MOE | {"router": router}}}}
    model = randomize(parse("model", LLAMA | balanced).build(VOCAB), 0)
    hooks = Hooks(model)
    parts = loss_of(model, {"tokens": TOKENS}, training=True).parts
    [name] = [name for name in parts if ":load/" in name]
    router = model.ahead.chain[0].block.ffn.router
    before = np.array(router.balance)
    assert not hooks({name: parts[name] / 22}, mx.array(True))
    after = np.array(router.balance)
    assert set(np.round(np.abs(after - before), 6)) <= {0.0, 0.5}
    assert (after != before).any()
