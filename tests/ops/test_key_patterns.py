"""Sparse patterns in blocks against the definition of attention with the same mask."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.attention import attention_naive
from mlx_transformers.ops.key_patterns import Factorised, first_tokens, joined_blocks, windowed
from mlx_transformers.ops.key_sets import KeySet, Tokens, attend, union
from mlx_transformers.ops.masks import Mask

from .compare import assert_close, assert_same_gradients, draw

B, H, T, K = 2, 4, 23, 6
SCALE = 0.5
SEGMENTS = mx.array(np.cumsum(np.random.default_rng(2).random((B, T)) < 0.15, axis=1))
VALID = mx.arange(T)[None] < mx.array([[T], [T - 5]])
STARTS = mx.array(
    [[max(i for i in range(t + 1) if not i or r[i] != r[i - 1]) for t in range(T)]
     for r in SEGMENTS.tolist()]
)  # fmt: skip
STRIDED, FIXED, BY_HEADS, UNEVEN = (
    Factorised("strided", 5),
    Factorised("fixed", 5, summary=2),
    Factorised("fixed", 6, summary=2, verts=2),
    Factorised("fixed", 6, summary=1, verts=3),
)
attend_set: Callable[..., KeySet] = lambda q, k, v, seen: attend(q, k, v, scale=SCALE, seen=seen)  # noqa: E731

Sets = Callable[[Tokens, tuple, bool, mx.array | None], list[KeySet]]
Pairs = Callable[[mx.array, mx.array, mx.array], mx.array]


def factorised(pattern: Factorised) -> tuple[Sets, Pairs]:
    def sets(tokens: Tokens, qkv: tuple, causal: bool, starts: mx.array | None) -> list[KeySet]:
        near = pattern.near(attend_set, tokens, qkv, causal=causal)
        return [near, pattern.far(attend_set, tokens, qkv, causal=causal, alone=False)]

    return sets, lambda t, s, h: pattern.is_near(t, s) | pattern.is_far(t, s, h)


def far_alone(pattern: Factorised) -> tuple[Sets, Pairs]:
    return (
        lambda tokens, qkv, causal, _: [pattern.far(attend_set, tokens, qkv, causal=causal)],
        lambda t, s, h: pattern.is_far(t, s, h),
    )


def local(size: int, back: int, ahead: int) -> tuple[Sets, Pairs]:
    def sets(tokens: Tokens, qkv: tuple, causal: bool, starts: mx.array | None) -> list[KeySet]:
        shape = {"size": size, "back": back, "ahead": ahead, "causal": causal}
        return [joined_blocks(attend_set, tokens, qkv, **shape)]

    def pairs(t: mx.array, s: mx.array, h: mx.array) -> mx.array:
        away = t // size - s // size
        return (away <= back) & (away >= -ahead)

    return sets, pairs


def streaming(window: int, first: int) -> tuple[Sets, Pairs]:
    def sets(tokens: Tokens, qkv: tuple, causal: bool, starts: mx.array | None) -> list[KeySet]:
        run = {"attend": attend_set, "tokens": tokens, "qkv": qkv, "causal": causal}
        left = first_tokens(first=first, starts=starts, rule=lambda t, s: t - s >= window, **run)
        return [windowed(window=window, **run), left]

    def pairs(t: mx.array, s: mx.array, h: mx.array) -> mx.array:
        return mx.abs(t - s) < window

    return sets, pairs


PATTERNS: dict[str, tuple[Sets, Pairs]] = {
    "strided": factorised(STRIDED),
    "fixed": factorised(FIXED),
    "fixed by heads": factorised(BY_HEADS),
    "fixed by uneven heads": factorised(UNEVEN),
    "strided far": far_alone(STRIDED),
    "fixed far": far_alone(FIXED),
    "local": local(4, 2, 1),
    "local alone": local(30, 0, 0),
    "streaming": streaming(4, 3),
    "window": (
        lambda tokens, qkv, causal, _: [
            windowed(attend_set, tokens, qkv, window=7, causal=causal)
        ],
        lambda t, s, h: mx.abs(t - s) < 7,
    ),
}  # fmt: skip


def mask_of(name: str, pairs: Pairs, causal: bool, packed: bool, padded: bool) -> mx.array:
    """The dense mask `[B, H, T, T]` of a pattern."""
    t, s, h = mx.arange(T)[:, None], mx.arange(T)[None], mx.arange(H)[:, None, None]
    seen = pairs(t, s, h) & mx.full((B, H, T, T), True)
    if name == "streaming":
        starts = STARTS if packed else mx.zeros((B, T), mx.int32)
        among = (s[None] >= starts[..., None]) & (s[None] < starts[..., None] + 3)
        seen = seen | (among & (s < t)[None])[:, None]
    if causal:
        seen = seen & (s <= t)
    if packed:
        seen = seen & (SEGMENTS[:, :, None] == SEGMENTS[:, None, :])[:, None]
    return seen & VALID[:, None, None] if padded else seen


@pytest.mark.parametrize("facts", ["whole", "packed", "padded"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
@pytest.mark.parametrize("name", PATTERNS)
def test_blocks_equal_attention_with_the_patterns_mask(name: str, causal: bool, facts: str) -> None:
    sets, pairs = PATTERNS[name]
    packed, padded = facts == "packed", facts == "padded"
    tokens = Tokens.of(T, SEGMENTS if packed else None, VALID if padded else None)
    starts = STARTS if packed else None
    allowed = mask_of(name, pairs, causal, packed, padded)
    assert_same_gradients(
        lambda *qkv: union(sets(tokens, qkv, causal, starts)),
        partial(attention_naive, scale=SCALE, mask=Mask(allowed=allowed)),
        [2 * draw(1, B, H, T, K), draw(2, B, H, T, K), draw(3, B, H, T, K + 1)],
    )


def test_a_set_takes_bias_soft_cap_and_sinks_as_attention_does() -> None:
    qkv = [2 * draw(1, B, H, T, K), draw(2, B, H, T, K), draw(3, B, H, T, K)]
    bias, sinks = draw(4, 1, H, T, T), draw(5, H)

    def blocks(q: mx.array, k: mx.array, v: mx.array, bias: mx.array, sinks: mx.array) -> mx.array:
        half = mx.arange(T) < 9
        sets = [
            attend(q, k, v, scale=SCALE, seen=seen, bias=bias, softcap=2.0)
            for seen in (half, ~half)
        ]
        return union(sets, sinks[:, None, None])

    def whole(q: mx.array, k: mx.array, v: mx.array, bias: mx.array, sinks: mx.array) -> mx.array:
        mask = Mask(causal=False)
        return attention_naive(q, k, v, scale=SCALE, mask=mask, softcap=2.0, bias=bias, sinks=sinks)

    assert_same_gradients(blocks, whole, [*qkv, bias, sinks])


def test_dropout_of_a_set_is_keyed_and_keeps_the_mean() -> None:
    q, k = draw(1, B, H, T, K), draw(2, B, H, T, K)
    run = partial(attend, q, k, mx.ones_like(k), scale=SCALE, seen=None, dropout=0.5)
    assert_close(run(key=mx.random.key(1)).out, run(key=mx.random.key(1)).out)
    mean = mx.stack([run(key=mx.random.key(i)).out for i in range(64)]).mean().item()
    assert abs(mean - 1.0) < 0.02
    with pytest.raises(ValueError, match="PRNG key"):
        run()
