"""M-RoPE: rotary positions of text, pictures and films by time, row and column.

Wang et al. 2024 (Qwen2-VL), section 2.1. Angles `[..., T, K/2]` are for `rotate_by` of
`ops/rotary.py`; coordinates are integers.
"""

from collections.abc import Sequence
from typing import Literal

import mlx.core as mx
import numpy as np

Grid = tuple[int, int, int]
"""Frames, rows and columns of one picture or film, in patches."""


def section_angles(
    positions: mx.array,
    sections: Sequence[int],
    theta: float = 10_000.0,
    *,
    interleaved: bool = False,
) -> mx.array:
    """Angles `[B, 1, T, K/2]` of M-RoPE: each frequency belongs to one coordinate of `positions`
    `[axes, B, T]`, such as time, row and column.

    `sections` counts the frequencies of each coordinate, in order (Qwen2-VL: Wang et al. 2024,
    section 2.1). `interleaved` deals them out in turn as far as the sections go, and gives the
    rest to the first coordinate (Qwen3-VL).

    Raises:
        ValueError: there isn't one section per coordinate.
    """
    axes, half = positions.shape[0], sum(sections)
    if len(sections) != axes:
        raise ValueError(f"{axes} coordinates need {axes} sections, not {list(sections)}.")
    if interleaved:
        owner = np.zeros(half, np.int64)
        for axis in range(1, axes):
            owner[axis : axes * sections[axis] : axes] = axis
    else:
        owner = np.repeat(np.arange(axes), sections)
    inv_freq = theta ** (-mx.arange(half) / half)
    chosen = positions[mx.array(owner)].transpose(1, 2, 0)  # [B, T, K/2]
    return (chosen * inv_freq)[:, None]


def multimodal_positions(
    kinds: np.ndarray,
    grids: Sequence[Sequence[Grid]],
    *,
    valid: np.ndarray | None = None,
    merge: int = 1,
    pace: Sequence[float] = (),
    resume: Literal["largest", "sides"] = "largest",
) -> tuple[np.ndarray, np.ndarray]:
    """M-RoPE coordinates of rows of text, pictures and films.

    Text counts on. A picture that begins at position p gives its token (t, row, column) the
    coordinates `p + (t, row, column)`; the text after it goes on at the largest one + 1
    (Qwen2-VL: Wang et al. 2024, section 2.1).

    Args:
        kinds: `[B, T]`: 0 text, 1 picture, 2 film.
        grids: for kinds 1 and 2, the grids in the order of the tokens of all rows.
        valid: `[B, T]`, whether a token is not padding; None: all are.
        merge: patches on a side of the square that makes one token.
        pace: positions from one frame of each film to the next; 1 where none is given.
        resume: where text continues after a picture or film: behind its `largest`
            coordinate, or that of its `sides`, however long a film is (transformers 5).

    Returns:
        Coordinates `[3, B, T]`, 0 on padding; and for each row the largest one + 1 less the row's
        length T, `[B, 1]`, by which decoding goes on.

    Raises:
        ValueError: tokens and grids don't fit each other.
    """
    remaining = {1: list(grids[0]) if grids else [], 2: list(grids[1]) if len(grids) > 1 else []}
    paces = list(pace)
    places = np.zeros((3, *kinds.shape), np.int64)
    deltas = np.zeros((len(kinds), 1), np.int64)
    for row, every in enumerate(kinds):
        real = np.ones(len(every), bool) if valid is None else valid[row].astype(bool)
        token_kinds, parts, start, end, at = every[real], [], 0, 0, 0
        while at < len(token_kinds):
            kind = int(token_kinds[at])
            if kind == 0:
                n = int(np.argmax(token_kinds[at:] != 0)) or len(token_kinds) - at
                part = np.broadcast_to(start + np.arange(n), (3, n))
            else:
                if not remaining[kind]:
                    raise ValueError("A row has tokens of a picture for which there is no grid.")
                t, rows, columns = remaining[kind].pop(0)
                speed = paces.pop(0) if kind == 2 and paces else 1
                part = _grid(t, rows // merge, columns // merge, speed) + start
                n = part.shape[1]
                if at + n > len(token_kinds) or np.any(token_kinds[at : at + n] != kind):
                    raise ValueError(f"A grid of {n} tokens has not as many in its row.")
            parts.append(part)
            at, end = at + n, max(end, int(part.max()) + 1)
            start = int(part[1 if resume == "sides" else 0 :].max()) + 1
        if parts:
            places[:, row, real] = np.concatenate(parts, axis=1)
        deltas[row] = end - int(real.sum())
    return places, deltas


def _grid(frames: int, rows: int, columns: int, pace: float) -> np.ndarray:
    """Frame, row and column of each token of a film, `[3, frames * rows * columns]`."""
    axes = [(np.arange(frames) * pace).astype(np.int64), np.arange(rows), np.arange(columns)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
