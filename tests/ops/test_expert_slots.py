"""Slots of experts against loops over tokens, forward and backward."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.expert_slots import (
    Slots,
    expert_capacity,
    expert_choice,
    stacked_linear,
    token_choice,
    token_choice_naive,
)
from mlx_transformers.ops.router_losses import (
    balance_loss,
    balance_over_layers,
    entropy,
    marked,
    z_loss,
)
from mlx_transformers.ops.second_choices import keep_choices, normalised

from .compare import assert_close, draw

G, T, K, E, C, D = 2, 11, 2, 4, 4, 5


def choices(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([[rng.permutation(E)[:K] for _ in range(T)] for _ in range(G)])


@pytest.mark.parametrize("capacity", [1, 3, T])
def test_tokens_fill_slots_rank_by_rank_in_their_order(capacity: int) -> None:
    choice = choices()
    routed = np.random.default_rng(1).random(choice.shape) > 0.2
    slots = token_choice(mx.array(choice), mx.array(routed), E, capacity)
    for g in range(G):
        expected = token_choice_naive(choice[g].tolist(), routed[g].tolist(), E, capacity)
        assert slots.token[g].tolist() == expected
        for t, j in np.ndindex(T, K):
            assert bool(slots.kept()[g, t, j]) == (
                routed[g, t, j] and t in expected[choice[g, t, j]]
            )


def test_prioritised_tokens_come_first() -> None:
    choice, priority = choices(), np.random.default_rng(2).random((G, T))
    routed = np.ones(choice.shape, bool)
    slots = token_choice(mx.array(choice), mx.array(routed), E, 2, mx.array(priority))
    for g in range(G):
        order = np.argsort(-priority[g])
        taken = token_choice_naive(choice[g][order].tolist(), routed[g].tolist(), E, 2)
        expected = [[order[t] if t >= 0 else -1 for t in row] for row in taken]
        assert slots.token[g].tolist() == expected


def test_experts_choose_their_best_tokens() -> None:
    scores = draw(3, G, T, E)
    slots = expert_choice(scores, 3)
    for g, e in np.ndindex(G, E):
        assert slots.token[g, e].tolist() == np.argsort(-np.asarray(scores[g, :, e]))[:3].tolist()
    assert int(slots.kept().sum()) == G * E * 3


@pytest.mark.parametrize("by", ["tokens", "experts"])
def test_slots_compute_the_dense_sum_and_its_gradients(by: str) -> None:
    x, w = draw(0, G, T, D), draw(1, E, D, D)
    gates = draw(2, G, T, K if by == "tokens" else E)
    choice = mx.array(choices())
    if by == "tokens":
        slots = token_choice(choice, mx.ones(choice.shape, mx.bool_), E, C)
    else:
        slots, choice = expert_choice(gates, C), mx.broadcast_to(mx.arange(E), gates.shape)
    chosen = (choice[..., None] == mx.arange(E)).astype(mx.float32)

    def sparse(x: mx.array, gates: mx.array, w: mx.array) -> mx.array:
        return slots.combine(mx.tanh(stacked_linear(slots.gather(x), w)), gates)

    def dense(x: mx.array, gates: mx.array, w: mx.array) -> mx.array:
        share = (mx.where(slots.kept(), gates, 0.0)[..., None] * chosen).sum(axis=2)
        return mx.einsum("gte,gted->gtd", share, mx.tanh(mx.einsum("gtd,efd->gtef", x, w)))

    def weighed(f):  # type: ignore[no-untyped-def]
        return lambda *args: (f(*args) * draw(7, G, T, D)).sum()

    assert_close(sparse(x, gates, w), np.asarray(dense(x, gates, w)))
    ours, theirs = (mx.grad(weighed(f), (0, 1, 2))(x, gates, w) for f in (sparse, dense))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_dropped_token_gets_nothing_and_an_empty_slot_no_gradient() -> None:
    choice = mx.zeros((1, 3, 1), mx.int32)
    slots = token_choice(choice, mx.ones(choice.shape, mx.bool_), 2, 1)
    assert slots.token.tolist() == [[[0], [-1]]]

    def run(x: mx.array) -> mx.array:
        return slots.combine(slots.gather(x), mx.ones((1, 3, 1)))

    x = draw(0, 1, 3, D)
    assert np.abs(np.asarray(run(x))[0, 1:]).max() == 0
    assert mx.grad(lambda x: run(x).sum())(x).tolist() == [[[1.0] * D, [0.0] * D, [0.0] * D]]


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((12, 4, 1.25), {}, 3),
        ((12, 4, 1.3), {"rounding": "up"}, 4),
        ((13, 4, 1.0), {"rounding": "even_share"}, 4),
        ((12, 4, 1.0), {"minimum": 4}, 4),
        ((8, 2, 9.0), {}, 8),
        ((2, 8, 1.0), {}, 1),
    ],
)
def test_a_capacity_is_rounded_as_published(
    arguments: tuple[int, int, float], options: dict, expected: int
) -> None:
    assert expert_capacity(*arguments, **options) == expected


def test_policies_keep_the_choices_of_their_rule() -> None:
    gates = mx.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.05]])
    kept = {
        policy: keep_choices(gates, policy, 0.2).tolist() for policy in ("all", "none", "threshold")
    }
    assert kept["all"] == [[True] * 3] * 2
    assert kept["none"] == [[True, False, False]] * 2
    assert kept["threshold"] == [[True, True, False], [True, False, False]]
    uniform = mx.array([[0.9, 0.99, 0.6], [0.9, 0.4, 0.2]])
    drawn = keep_choices(gates, "random", 0.2, uniform).tolist()
    assert drawn == [[True, True, False], [True, True, True]]
    assert normalised(gates).sum(axis=-1).tolist() == pytest.approx([1.0, 1.0])


def test_losses_are_their_formulas() -> None:
    logits = np.asarray(draw(5, G, T, E), np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    choice = np.argsort(-probs, axis=-1)[..., :2]
    any_of = np.zeros_like(probs)
    np.put_along_axis(any_of, choice, 1.0, axis=-1)
    given = mx.array(probs.astype(np.float32))
    named = marked(mx.array(choice), E)
    assert np.array_equal(np.asarray(named), any_of)
    valid = np.arange(T) < 7
    for weights, part in ((None, slice(None)), (mx.array(np.stack([valid] * G)), slice(0, 7))):
        f, p = any_of[:, part].mean(axis=1), probs[:, part].mean(axis=1)
        assert float(balance_loss(named, given, weights)) == pytest.approx(
            (E * (f * p).sum(axis=-1)).mean(), rel=1e-5
        )
        z = np.log(np.exp(logits[:, part]).sum(axis=-1)) ** 2
        found = float(z_loss(mx.array(logits.astype(np.float32)), weights))
        assert found == pytest.approx(z.mean(), rel=1e-5)
    layers = np.stack([any_of.mean(axis=1), probs.mean(axis=1), np.ones((G, E))]).sum(axis=1)
    together = E * (any_of.mean(axis=(0, 1)) * probs.mean(axis=(0, 1))).sum()
    assert float(balance_over_layers(mx.array(layers.astype(np.float32)))) == pytest.approx(
        together
    )
    assert float(entropy(mx.array([0.5, 0.5, 0.0]))) == pytest.approx(np.log(2))


def test_slots_hold_each_token_of_a_choice_once() -> None:
    slots: Slots = expert_choice(draw(0, G, T, E), C)
    for g, e in np.ndindex(G, E):
        assert len(set(slots.token[g, e].tolist())) == C
