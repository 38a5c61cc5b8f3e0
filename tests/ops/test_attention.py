"""Attention: the definition against NumPy, the fast forms against the definition."""

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.score_bias import DistanceBias
from mlx_transformers.ops import attention as attention_module
from mlx_transformers.ops.attention import (
    attention,
    attention_fused,
    attention_naive,
    attention_one,
)
from mlx_transformers.ops.attention_blocks import attention_blocks
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


@pytest.mark.parametrize("kind", [*MASKS, "nothing"])
def test_one_query_equals_the_definition(kind: str) -> None:
    unseen = Mask(
        allowed=mx.array([[True], [False]])[:, None, None] & mx.ones((1, 1, 1, 12), mx.bool_)
    )
    how: dict[str, Any] = {"scale": SCALE, "mask": (masks(12) | {"nothing": unseen})[kind]}
    assert_same_gradients(
        partial(attention_one, **how), partial(attention_naive, **how), inputs(1, 12)
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


BIASES = {
    "alibi": DistanceBias(draw(11, 1, H, 2 * 37 - 1)),
    "shaw": DistanceBias(keys=draw(12, 1, 2 * 37 - 1, K)),
    "shaw by heads": DistanceBias(keys=draw(13, H, 2 * 37 - 1, K)),
    "xl": DistanceBias(draw(11, 1, H, 73), draw(13, H, 73, K), draw(14, B, H, 1, 37)),
}


def dense(q: mx.array, parts: dict[str, mx.array]) -> mx.array:
    """The bias of each pair, one by one from its distance."""
    ahead = mx.arange(37)[None] - mx.arange(37)[:, None] + 36
    bias = mx.zeros((1, H, 37, 37))
    if "by_distance" in parts:
        bias = bias + parts["by_distance"][:, :, ahead]
    if "keys" in parts:
        bias = bias + (q[..., None, :] * SCALE * parts["keys"][:, ahead]).sum(axis=-1)
    return bias + parts["by_key"] if "by_key" in parts else bias


@pytest.mark.parametrize("fused", [False, True], ids=["blocks", "kernels"])
@pytest.mark.parametrize("kind", ["causal", "full", "packed window"])
@pytest.mark.parametrize("name", BIASES)
def test_blocks_take_every_bias_by_distance_and_sinks(name: str, kind: str, fused: bool) -> None:
    parts = BIASES[name].arrays()
    how: dict[str, Any] = {"scale": SCALE, "mask": masks(37)[kind]}

    def blocks(q: mx.array, k: mx.array, v: mx.array, sinks: mx.array, *own: mx.array) -> mx.array:
        bias = DistanceBias(**dict(zip(parts, own, strict=True)))
        return attention_blocks(q, k, v, bias=bias, sinks=sinks, block=16, fused=fused, **how)

    def naive(q: mx.array, k: mx.array, v: mx.array, sinks: mx.array, *own: mx.array) -> mx.array:
        bias = dense(q, dict(zip(parts, own, strict=True)))
        return attention_naive(q, k, v, bias=bias, sinks=sinks, **how)

    q, k, v = inputs(37, 37)
    args = [q, k, v[..., :K] if fused else v, draw(15, H), *parts.values()]
    assert_same_gradients(blocks, naive, args, bound=1e-4 if fused else 1e-5)


def test_blocks_read_a_shorter_or_longer_sequence_and_not_its_padding() -> None:
    for t, s in ((37, 12), (12, 37)):
        mask = Mask(causal=False, valid=mx.arange(s)[None] < mx.array([[s], [s - 4]]))
        how: dict[str, Any] = {"scale": SCALE, "mask": mask}
        assert_same_gradients(
            partial(attention_blocks, block=16, **how),
            partial(attention_naive, **how),
            inputs(t, s),
        )


@pytest.mark.parametrize("fused", [False, True], ids=["blocks", "kernels"])
def test_gradients_of_dropped_blocks_are_the_derivative(fused: bool) -> None:
    how: dict[str, Any] = {"scale": SCALE, "mask": Mask(window=6), "dropout": 0.4, "softcap": 2.0}
    run = partial(attention_blocks, block=8, key=mx.random.key(3), fused=fused, **how)
    assert_derivative(run, inputs(13, 13))


KINDS: dict[str, dict[str, Any]] = {
    "causal": {},
    "window": {"mask": Mask(window=96)},
    "both ways": {"mask": Mask(causal=False)},
    "packed": {"mask": "segments"},
    "padded": {"mask": "valid"},
    "alibi": {"bias": "by_distance"},
    "shaw": {"bias": "keys"},
    "soft cap": {"softcap": 2.0},
    "sinks": {"sinks": mx.zeros(2)},
    "dropout": {"dropout": 0.2, "key": mx.random.key(1)},
}


@pytest.mark.parametrize("cpu", [True, False], ids=["cpu", "gpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_bytes_grow_as_the_length(
    kind: str, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the tokens, twice the bytes: never those of all pairs."""
    if kind == "causal" and not cpu:
        pytest.skip("MLX's own kernel for the GPU; on a CPU it saves all pairs")
    monkeypatch.setattr(attention_module, "on_cpu", lambda: cpu)
    monkeypatch.setattr(attention_module, "GPU_BLOCK", 64)
    small, large = (saved_by(KINDS[kind], t) for t in (256, 512))
    assert small < large < 2.3 * small
    assert large < 2 * 512 * 512  # half of a score in bytes, for each pair of one head


def saved_by(more: dict[str, Any], t: int) -> int:
    """Bytes that stay allocated after the forward pass of T tokens, for the backward."""
    args = [draw(i, 1, 2, t, 8) for i in range(3)]
    how = {"mask": Mask(), **more}
    if how["mask"] == "segments":
        how["mask"] = Mask(segments=mx.arange(t)[None] // 100)
    if how["mask"] == "valid":
        how["mask"] = Mask(causal=False, valid=mx.arange(t)[None] < t - 5)
    if how.get("bias") == "by_distance":
        how["bias"] = DistanceBias(draw(4, 1, 2, 2 * t - 1))
    if how.get("bias") == "keys":
        how["bias"] = DistanceBias(keys=draw(4, 1, 2 * t - 1, 8))
    mx.eval(args)
    before = mx.get_active_memory()
    outs, gradients = mx.vjp(partial(attention, scale=SCALE, **how), args, [draw(5, 1, 2, t, 8)])
    mx.eval(outs)
    found = mx.get_active_memory() - before
    mx.eval(gradients)
    return found


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
