"""Each filter against its definition in NumPy; the draw against probabilities."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.sample import (
    Sampling,
    min_p,
    repetition_penalty,
    sample,
    top_k,
    top_p,
)

B, V = 5, 23
NO_HISTORY = mx.zeros((B, 0), dtype=mx.int32)


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(3).normal(scale=2.0, size=(B, V)).astype(np.float32)


def keys(seed: int, n: int) -> mx.array:
    """A key for each of n rows."""
    return mx.random.split(mx.random.key(seed), n)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def survivors(filtered: mx.array, logits: np.ndarray) -> np.ndarray:
    """Which tokens a filter kept; it must not have changed their logits."""
    after = np.array(filtered)
    kept = np.isfinite(after)
    np.testing.assert_array_equal(after[kept], logits[kept])
    assert (after[~kept] == -np.inf).all()
    return kept


@pytest.mark.parametrize("k", [1, 4, V, V + 10])
def test_top_k_keeps_the_k_most_probable(logits: np.ndarray, k: int) -> None:
    kept = survivors(top_k(mx.array(logits), k), logits)
    for row, mask in zip(logits, kept, strict=True):
        assert set(np.flatnonzero(mask)) == set(np.argsort(-row)[:k])


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.9, 0.999])
def test_top_p_keeps_the_fewest_tokens_that_hold_p(logits: np.ndarray, p: float) -> None:
    kept = survivors(top_p(mx.array(logits), p), logits)
    for probs, mask in zip(softmax(logits), kept, strict=True):
        order = np.argsort(-probs)
        n = int(np.argmax(np.cumsum(probs[order]) >= p)) + 1
        assert set(np.flatnonzero(mask)) == set(order[:n])


@pytest.mark.parametrize("p", [0.05, 0.5, 1.0])
def test_min_p_keeps_what_is_probable_relative_to_the_best(logits: np.ndarray, p: float) -> None:
    kept = survivors(min_p(mx.array(logits), p), logits)
    probs = softmax(logits)
    np.testing.assert_array_equal(kept, probs >= p * probs.max(-1, keepdims=True) * (1 - 1e-9))


def test_the_repetition_penalty_counts_a_token_once_and_knows_empty_slots(
    logits: np.ndarray,
) -> None:
    history = np.array([[-1, -1, 3], [0, 0, 22], [-1, 5, 5], [1, 2, 3], [-1, -1, -1]])
    after = np.array(repetition_penalty(mx.array(logits), mx.array(history), 1.7))
    expected = logits.copy()
    for row, seen in zip(expected, history, strict=True):
        for token in set(seen.tolist()) - {-1}:
            row[token] = row[token] / 1.7 if row[token] > 0 else row[token] * 1.7
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_filters_come_in_order_each_after_renormalising() -> None:
    probs = np.array([[0.4, 0.3, 0.2, 0.06, 0.04]])
    logits = mx.array(np.log(probs), dtype=mx.float32)
    # Of the three that top-k leaves, the first two hold 0.78 of what is left (0.7 of the whole).
    assert drawn(logits, Sampling(temp=1, top_k=3, top_p=0.75)) == {0, 1}
    assert drawn(logits, Sampling(temp=1, top_p=0.75)) == {0, 1, 2}
    # The temperature comes first: at 2, the second is 0.87 as probable as the first.
    assert drawn(logits, Sampling(temp=1, min_p=0.8)) == {0}
    assert drawn(logits, Sampling(temp=2, min_p=0.8)) == {0, 1}


def drawn(logits: mx.array, sampling: Sampling, n: int = 4000) -> set[int]:
    """The tokens that come up in many draws."""
    rows = mx.broadcast_to(logits, (n, logits.shape[1]))
    tokens = sample(rows, keys(0, n), mx.zeros((n, 0), dtype=mx.int32), sampling)
    return set(tokens.tolist())


def test_draws_have_the_probabilities_of_the_temperature() -> None:
    probs = np.array([0.5, 0.3, 0.15, 0.05])
    n = 40_000
    rows = mx.broadcast_to(mx.array(np.log(probs), dtype=mx.float32), (n, 4))
    history = mx.zeros((n, 0), dtype=mx.int32)
    tokens = sample(rows, keys(1, n), history, Sampling(temp=0.5))
    expected = probs**2 / (probs**2).sum()
    share = np.bincount(np.array(tokens), minlength=4) / n
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()


@pytest.mark.parametrize("temp", [1e-40, 1e-30, 1e-6])
def test_a_temperature_near_zero_takes_the_most_probable(logits: np.ndarray, temp: float) -> None:
    for seed in range(20):
        tokens = sample(mx.array(logits), keys(seed, B), NO_HISTORY, Sampling(temp=temp))
        assert tokens.tolist() == logits.argmax(-1).tolist()


def test_a_token_without_probability_is_never_drawn() -> None:
    n = 100_000
    logits = mx.broadcast_to(mx.array([-mx.inf, 0.0, -mx.inf, 0.0, -mx.inf]), (n, 5))
    tokens = sample(logits, keys(2, n), mx.zeros((n, 0), dtype=mx.int32), Sampling(temp=1))
    assert set(tokens.tolist()) == {1, 3}


def test_a_row_is_drawn_as_alone(logits: np.ndarray) -> None:
    together = sample(mx.array(logits), keys(5, B), NO_HISTORY, Sampling(temp=1))
    for i in range(B):
        one = mx.array(logits[i : i + 1])
        alone = sample(one, keys(5, B)[i : i + 1], NO_HISTORY[:1], Sampling(temp=1))
        assert alone.item() == together[i].item()


def test_a_row_is_drawn_as_by_mlx() -> None:
    """To the token, so that the samples of a run stay what they were."""
    n = 400
    rows = mx.array(np.random.default_rng(3).normal(size=(n, 500)).astype(np.float32))
    tokens = sample(rows, keys(4, n), mx.zeros((n, 0), dtype=mx.int32), Sampling(temp=1))
    rows = rows - rows.max(axis=-1, keepdims=True)
    each = [mx.random.categorical(rows[i : i + 1], key=keys(4, n)[i]) for i in range(n)]
    assert tokens.tolist() == mx.concatenate(each).tolist()


def test_temperature_zero_takes_the_most_probable_whatever_the_filters(logits: np.ndarray) -> None:
    greedy = Sampling(temp=0, top_p=0.5, top_k=3, min_p=0.2)
    tokens = sample(mx.array(logits), keys(0, B), NO_HISTORY, greedy)
    assert tokens.tolist() == logits.argmax(-1).tolist()


def test_a_draw_depends_on_its_key_alone(logits: np.ndarray) -> None:
    rows = mx.zeros((64, V))
    history = mx.zeros((64, 0), dtype=mx.int32)

    def draw(seed: int) -> list[int]:
        return sample(rows, keys(seed, 64), history, Sampling()).tolist()

    mx.random.seed(0)
    first = draw(7)
    mx.random.seed(1)
    assert draw(7) == first
    assert draw(8) != first


@pytest.mark.compiled
def test_compiled_sampling_is_eager_sampling(logits: np.ndarray) -> None:
    every = Sampling(temp=0.7, top_p=0.9, top_k=9, min_p=0.02, repetition_penalty=1.3)
    history = mx.array(np.arange(B * 4).reshape(B, 4) % V, dtype=mx.int32)

    def draw(x: mx.array, key: mx.array) -> mx.array:
        return sample(x, key, history, every)

    compiled = mx.compile(draw)
    for seed in range(20):
        key = keys(seed, B)
        x = mx.array(logits)
        assert compiled(x, key).tolist() == draw(x, key).tolist()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temp", -0.1),
        ("temp", float("nan")),
        ("temp", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_window", 0),
    ],
)
def test_an_option_out_of_range_is_named_with_its_range(option: str, value: float) -> None:
    with pytest.raises(RunError, match=f"{option} = {value} is out of range: it is"):
        Sampling(**{option: value})  # type: ignore[arg-type]
