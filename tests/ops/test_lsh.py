"""Attention by hashing against the rules of the published code, pair by pair in NumPy."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.lsh import SELF_SCORE, LshPattern, hash_buckets, lsh_attention
from mlx_transformers.ops.neighbours import look_around

T, K, M = 24, 4, 4
LOW = -1e30


def inputs(rounds: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    qk, v = rng.standard_normal((2, T, K))
    return qk, v, rng.integers(0, 6, (rounds, T))


def pair_by_pair(
    qk,
    v,
    buckets,
    *,
    causal=False,
    across_buckets=True,
    duplicates=True,
    before=1,
    after=0,
    valid=None,
    segments=None,
):
    """Every query of every round over the keys of its neighbourhood, one after the other."""
    R = len(buckets)
    orders = [np.lexsort((np.arange(T), row)) for row in buckets]
    ring = np.concatenate(orders).reshape(-1, M)
    home = {
        (r, t): r * T // M + int(np.where(orders[r] == t)[0][0]) // M
        for r in range(R)
        for t in range(T)
    }
    key = qk / np.linalg.norm(qk, axis=-1, keepdims=True)
    outs, sums = np.zeros((R, T, K)), np.zeros((R, T))
    for r in range(R):
        for q in range(T):
            scores, values = [], []
            for step in range(-before, after + 1):
                chunk = (home[r, q] + step) % len(ring)
                for k in ring[chunk]:
                    score = qk[q] @ key[k] / np.sqrt(K)
                    hidden = causal and q < k
                    hidden |= valid is not None and not (valid[q] and valid[k])
                    hidden |= segments is not None and segments[q] != segments[k]
                    score = LOW if hidden else score
                    score = SELF_SCORE if q == k else score
                    if not across_buckets and (
                        chunk * M // T != r or buckets[r][q] != buckets[r][k]
                    ):
                        score = LOW
                    if not duplicates:
                        n = sum(
                            (home[i, k] + s) % len(ring) == home[i, q]
                            and (across_buckets or buckets[i][q] == buckets[i][k])
                            for i in range(R)
                            for s in range(-after, before + 1)
                        )
                        score -= np.log(n + 1e-9)
                    scores.append(score)
                    values.append(v[k])
            weights = np.exp(scores - np.max(scores))
            outs[r, q] = weights @ np.array(values) / weights.sum()
            sums[r, q] = np.max(scores) + np.log(weights.sum())
    shares = np.exp(sums - sums.max(axis=0))
    shares /= shares.sum(axis=0)
    return (shares[..., None] * outs).sum(axis=0)


VALID = np.arange(T) < 19
SEGMENTS = np.arange(T) // 9


@pytest.mark.parametrize(
    ("rounds", "options"),
    [
        (1, {}),
        (2, {"causal": True}),
        (3, {"duplicates": False}),
        (2, {"causal": True, "duplicates": False, "valid": VALID}),
        (2, {"across_buckets": False}),
        (3, {"across_buckets": False, "duplicates": False, "causal": True}),
        (2, {"before": 2, "after": 1, "duplicates": False}),
        (2, {"segments": SEGMENTS, "causal": True}),
    ],
    ids=str,
)
def test_chunks_are_the_published_rules_pair_by_pair(rounds: int, options: dict) -> None:
    qk, v, buckets = inputs(rounds)
    marks = {n: mx.array(x) for n, x in options.items() if isinstance(x, np.ndarray)}
    pattern = LshPattern(M, **{n: x for n, x in options.items() if n not in marks})
    arrays = (mx.array(qk, mx.float32), mx.array(v, mx.float32), mx.array(buckets))
    got = lsh_attention(*arrays, pattern, scale=K**-0.5, **marks)
    np.testing.assert_allclose(got, pair_by_pair(qk, v, buckets, **options), rtol=1e-4, atol=1e-5)


def test_a_bucket_is_the_nearest_of_the_rotated_directions() -> None:
    x = mx.array([[2.0, 1.0], [-2.0, 1.0], [1.0, -3.0], [1.0, 1.0]])
    identity = mx.eye(2)[:, None]
    # directions e1, e2, -e1, -e2; of equal ones the first
    assert hash_buckets(x, identity, [4]).tolist() == [[0, 2, 3, 0]]
    # two hashes of two directions each: the sign of either feature, as digits
    assert hash_buckets(x, identity, [2, 2]).tolist() == [[0, 1, 2, 0]]


def test_no_gradient_flows_through_hashes_and_all_others_are_finite() -> None:
    qk, v, buckets = inputs(2)

    def loss(qk: mx.array) -> mx.array:
        made = mx.array(buckets) + 0 * hash_buckets(qk, mx.ones((K, 2, 3)), [6])
        arrays = (qk, mx.array(v, mx.float32), made)
        return lsh_attention(*arrays, LshPattern(M, causal=True), scale=0.5).square().sum()

    gradient = mx.grad(loss)(mx.array(qk, mx.float32))
    assert bool(mx.isfinite(gradient).all())
    assert float(mx.abs(gradient).max()) > 0


def test_chunks_are_joined_with_those_around_them_in_a_ring() -> None:
    x = mx.arange(6).reshape(3, 2, 1)
    got = look_around(x, 1, 1, axis=-3)[..., 0].tolist()
    assert got == [[4, 5, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1]]
