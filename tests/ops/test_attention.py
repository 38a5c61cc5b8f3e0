"""Attention: the definition against NumPy, the fast forms against the definition."""

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.attention import attention, attention_fused, attention_naive
from mlx_transformers.ops.attention_cpu import attention_blocks
from mlx_transformers.ops.masks import Mask

from .compare import assert_close, assert_derivative, assert_same_gradients, draw, numpy64

B, H, G, K = 2, 4, 2, 8
SCALE = 0.4


def inputs(t: int, s: int) -> list[mx.array]:
    return [2 * draw(1, B, H, t, K), draw(2, B, G, s, K), draw(3, B, G, s, K + 2)]


def documents(s: int) -> mx.array:
    return mx.array(np.cumsum(np.random.default_rng(5).random((B, s)) < 0.15, axis=1))


def by_numpy(
    q: mx.array, k: mx.array, v: mx.array, mask: Mask, softcap: float | None
) -> np.ndarray:
    """One head and one query at a time, over the keys it sees only."""
    q, k, v = numpy64(q), numpy64(k), numpy64(v)
    t, s = q.shape[2], k.shape[2]
    seen = mask.array(t, s)
    seen = np.ones((B, 1, t, s), bool) if seen is None else np.array(seen)
    seen = np.broadcast_to(seen, (B, 1, t, s))
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for b, h, i in np.ndindex(*q.shape[:3]):
        keys = np.flatnonzero(seen[b, 0, i])
        if keys.size == 0:
            continue
        scores = k[b, h // (H // G), keys] @ q[b, h, i] * SCALE
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        p = np.exp(scores - scores.max())
        out[b, h, i] = p / p.sum() @ v[b, h // (H // G), keys]
    return out


def masks(s: int) -> dict[str, Mask]:
    return {
        "causal": Mask(),
        "full": Mask(causal=False),
        "window": Mask(window=7),
        "narrow": Mask(window=1),
        "wide": Mask(window=1000),
        "both ways": Mask(causal=False, window=5),
        "packed": Mask(segments=documents(s)),
        "packed full": Mask(causal=False, segments=documents(s)),
        "packed window": Mask(window=4, segments=documents(s)),
        "prefix": Mask(prefix=mx.array([2, 0])),
    }


MASKS = list(masks(1))


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize(("t", "s"), [(37, 37), (5, 37), (1, 12)])
@pytest.mark.parametrize("kind", MASKS)
def test_the_definition_is_the_formula(kind: str, t: int, s: int, softcap: float | None) -> None:
    q, k, v = inputs(t, s)
    mask = masks(s)[kind]
    got = attention_naive(q, k, v, scale=SCALE, mask=mask, softcap=softcap)
    assert_close(got, by_numpy(q, k, v, mask, softcap))


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize(("t", "s"), [(37, 37), (20, 37), (48, 48)])
@pytest.mark.parametrize("kind", MASKS)
def test_blocks_equal_the_definition(kind: str, t: int, s: int, softcap: float | None) -> None:
    how: dict[str, Any] = {"scale": SCALE, "mask": masks(s)[kind], "softcap": softcap}
    assert_same_gradients(
        partial(attention_blocks, block=16, **how), partial(attention_naive, **how), inputs(t, s)
    )


@pytest.mark.parametrize("kind", MASKS)
def test_the_fused_form_equals_the_definition(kind: str) -> None:
    how: dict[str, Any] = {"scale": SCALE, "mask": masks(24)[kind]}
    args = [2 * draw(1, B, H, 24, K), draw(2, B, G, 24, K), draw(3, B, G, 24, K)]
    assert_same_gradients(
        partial(attention_fused, **how), partial(attention_naive, **how), args, bound=1e-4
    )


@pytest.mark.parametrize("form", [attention_naive, partial(attention_blocks, block=8)])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_float64_gradients_are_the_derivative(form: Any, softcap: float | None) -> None:
    mask = Mask(window=6, segments=documents(13))
    assert_derivative(partial(form, scale=SCALE, mask=mask, softcap=softcap), inputs(13, 13))


@pytest.mark.parametrize("form", [attention, attention_naive, attention_blocks])
def test_no_query_sees_after_itself_or_before_its_window(form: Any) -> None:
    t, at, window = 150, 70, 20
    q, k, v = inputs(t, t)
    run = partial(form, scale=SCALE, mask=Mask(window=window))
    before = run(q, k, v)
    k[:, :, at] += 3.0
    v[:, :, at] -= 5.0
    changed = np.array(mx.abs(run(q, k, v) - before).max(axis=(0, 1, 3))) > 0
    assert changed.tolist() == [at <= i < at + window for i in range(t)]


@pytest.mark.parametrize("form", [attention, attention_naive, attention_blocks])
def test_hidden_scores_far_above_the_seen_do_no_harm(form: Any) -> None:
    q, k, v = mx.ones((B, H, 40, K)), mx.ones((B, G, 40, K)), draw(3, B, G, 40, K)
    k[:, :, 20:] = 1e4
    mean = by_numpy(q[:, :, :20], k[:, :, :20], v[:, :, :20], Mask(), None)
    assert_close(form(q, k, v, scale=1.0, mask=Mask())[:, :, :20], mean)


@pytest.mark.parametrize("form", [attention, attention_naive, attention_blocks])
def test_scores_in_the_thousands_do_not_overflow(form: Any) -> None:
    q, k, v = inputs(20, 20)
    q = 300 * q
    assert_close(form(q, k, v, scale=SCALE, mask=Mask()), by_numpy(q, k, v, Mask(), None), 1e-3)


@pytest.mark.parametrize("form", [attention, attention_naive])
def test_a_query_without_keys_is_finite_and_moves_nothing(form: Any) -> None:
    q, k, v = inputs(3, 6)
    allowed = mx.zeros((B, 1, 3, 6), dtype=mx.bool_)
    allowed[1] = True

    def total(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return form(q, k, v, scale=SCALE, mask=Mask(allowed=allowed))[1].sum()

    for grad in mx.grad(total, argnums=(0, 1, 2))(q, k, v):
        assert mx.isfinite(grad).all().item()
        assert (grad[0] == 0).all().item()
    assert mx.isfinite(form(q, k, v, scale=SCALE, mask=Mask(allowed=allowed))).all().item()


def test_more_queries_than_keys_are_attended_and_the_first_see_nothing() -> None:
    q, k, v = inputs(6, 4)
    got = attention_naive(q, k, v, scale=SCALE, mask=Mask())
    assert (got[:, :, :2] == 0).all().item()
    assert_close(got, by_numpy(q, k, v, Mask(), None))
    with pytest.raises(ValueError, match="no more queries than keys"):
        attention_blocks(q, k, v, scale=SCALE, mask=Mask())


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("t", [1, 30])
def test_half_precision_is_kept_and_summed_in_float32(dtype: mx.Dtype, t: int) -> None:
    args = [x.astype(dtype) for x in inputs(t, 30)]
    got = attention(*args, scale=SCALE, mask=Mask())
    assert got.dtype == dtype
    want = attention_naive(*(x.astype(mx.float32) for x in args), scale=SCALE, mask=Mask())
    assert_close(got, want, bound=2e-2 if dtype == mx.bfloat16 else 2e-3)


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["causal", "packed window"])
def test_compiled_and_recomputed_equal_eager(kind: str) -> None:
    run = partial(attention, scale=SCALE, mask=masks(70)[kind])
    args = inputs(70, 70)
    assert_same_gradients(run, run, args, compiled=True)
    assert_same_gradients(mx.checkpoint(run), run, args, compiled=True)


def test_a_step_with_a_cache_equals_the_whole_sequence() -> None:
    q, k, v = inputs(12, 12)
    whole = attention(q, k, v, scale=SCALE, mask=Mask())
    room = [mx.concatenate([x, mx.full((B, G, 5, x.shape[-1]), 9.0)], axis=2) for x in (k, v)]
    for i in (0, 4, 11):
        mask = Mask(allowed=mx.arange(17) <= i)
        step = attention(q[:, :, i : i + 1], *room, scale=SCALE, mask=mask)
        assert_close(step, whole[:, :, i : i + 1])


def test_dropout_is_keyed_and_keeps_the_mean() -> None:
    q, k, v = inputs(16, 16)
    run = partial(attention, q, k, mx.ones_like(v), scale=SCALE, mask=Mask(False), dropout=0.5)
    first = run(key=mx.random.key(1))
    assert (first == run(key=mx.random.key(1))).all().item()
    assert (first != run(key=mx.random.key(2))).any().item()
    mean = mx.stack([run(key=mx.random.key(i)) for i in range(64)]).mean().item()
    assert abs(mean - 1.0) < 0.02
    with pytest.raises(ValueError, match="PRNG key"):
        run()


def test_memory_of_a_window_grows_with_the_window_not_the_length() -> None:
    t = 1024
    args = [draw(i, 1, 2, t, 4) for i in range(3)]
    mx.eval(args)

    def peak(mask: Mask) -> int:
        def total(*qkv: mx.array) -> mx.array:
            return attention_blocks(*qkv, scale=SCALE, mask=mask, block=32).sum()

        mx.reset_peak_memory()
        start = mx.get_active_memory()
        mx.eval(mx.grad(total, argnums=(0, 1, 2))(*args))
        return mx.get_peak_memory() - start

    limit = mx.set_memory_limit(1)
    try:
        assert peak(Mask(window=32)) < peak(Mask()) / 4
    finally:
        mx.set_memory_limit(limit)
