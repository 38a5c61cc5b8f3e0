"""Mask: every structure against a loop over positions."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.ops.masks import Mask

SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1, 3]])


def seen(
    causal: bool, window: int | None, segments: np.ndarray | None, t: int, chunk: int | None = None
) -> np.ndarray:
    """The definition, one pair at a time."""
    rows, s = SEGMENTS.shape
    out = np.zeros((rows, 1, t, s), bool)
    for b, i, j in np.ndindex(rows, t, s):
        q = s - t + i
        ok = not (causal and j > q)
        ok &= window is None or abs(q - j) < window
        ok &= chunk is None or q // chunk == j // chunk
        ok &= segments is None or segments[b, q] == segments[b, j]
        out[b, 0, i, j] = ok
    return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3, 8, 9, 40])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("t", [1, 4, 9])
def test_array_says_who_sees_whom(causal: bool, window: int | None, packed: bool, t: int) -> None:
    segments = SEGMENTS if packed else None
    mask = Mask(causal, window, None if segments is None else mx.array(segments))
    got = mask.array(t, SEGMENTS.shape[1])
    want = seen(causal, window, segments, t)
    got = np.ones_like(want) if got is None else np.broadcast_to(np.array(got), want.shape)
    assert (got == want).all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 40])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("t", [1, 4, 9])
def test_a_query_sees_its_own_chunk(causal: bool, chunk: int, packed: bool, t: int) -> None:
    segments = SEGMENTS if packed else None
    mask = Mask(causal, None, None if segments is None else mx.array(segments), chunk=chunk)
    got = mask.array(t, SEGMENTS.shape[1])
    want = seen(causal, None, segments, t, chunk)
    got = np.ones_like(want) if got is None else np.broadcast_to(np.array(got), want.shape)
    assert (got == want).all()
    assert mask.in_rows_of(9).chunk == (chunk if chunk < 9 else None)


def test_a_mask_that_hides_nothing_is_none() -> None:
    assert Mask(causal=False).array(5, 5) is None
    assert Mask(causal=False, window=5).array(5, 5) is None
    assert Mask(causal=True).array(1, 5) is None


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "chunk"), [(None, None), (1, None), (4, None), (None, 5)])
def test_keys_is_the_least_range_that_holds_all_that_a_block_sees(
    causal: bool, window: int | None, chunk: int | None
) -> None:
    mask, s = Mask(causal, window, chunk=chunk), 12
    whole = mask.array(s, s)
    whole = np.ones((s, s), bool) if whole is None else np.array(whole)
    for q0, q1 in ((0, 3), (4, 8), (9, 12)):
        columns = np.flatnonzero(whole[q0:q1].any(axis=0))
        assert mask.keys(q0, q1, s) == (columns[0], columns[-1] + 1)


@pytest.mark.parametrize("window", [None, 4])
def test_a_prefix_is_seen_from_before_it_too(window: int | None) -> None:
    prefix = [3, 6]
    got = np.array(Mask(True, window, prefix=mx.array(prefix)).array(9, 9))
    for b, i, j in np.ndindex(2, 9, 9):
        ok = j <= i or j < prefix[b]
        assert got[b, 0, i, j] == (ok and (window is None or abs(i - j) < window))


def test_allowed_replaces_the_structure() -> None:
    allowed = mx.array([[True, False, True]])
    assert Mask(causal=True, window=1, allowed=allowed).array(1, 3) is allowed


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 token"):
        Mask(window=0)
