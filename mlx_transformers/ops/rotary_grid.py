"""Rotary angles of positions with two coordinates: rows and columns of a picture.

Angles `[..., T, K/2]` are for `rotate_by` of ops/rotary.py. Coordinates are integers.
"""

import mlx.core as mx
import numpy as np

from ..core.shapes import Array


def grid_positions(rows: int, columns: int, merge: int = 1) -> Array:
    """Row and column of each patch, `[rows * columns, 2]`, row by row.

    With `merge` m the patches of one m x m square follow each other, as where a projector joins
    them to one token (Qwen2-VL: Wang et al. 2024, section 2.1).

    Raises:
        ValueError: `merge` divides not both sides.
    """
    if rows % merge or columns % merge:
        raise ValueError(f"A grid of {rows} x {columns} has no whole squares of {merge} x {merge}.")
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    squares = places.reshape(rows // merge, merge, columns // merge, merge, 2)
    return mx.array(squares.transpose(0, 2, 1, 3, 4).reshape(-1, 2))


def grid_angles(
    positions: Array, width: int, theta: float = 10_000.0, *, alternate: bool = False
) -> Array:
    """Angles `[..., width / 2]` of rows and columns `[..., 2]`: half of the pairs for each.

    Rows and columns have the same frequencies `theta^(-4j / width)` (Qwen2-VL); with `alternate`
    those of one sequence, `theta^(-2j / width)`, even j for rows and odd j for columns (Pixtral:
    Agrawal et al. 2024, section 2.2).

    Raises:
        ValueError: `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"2-D rotary positions need a multiple of 4 features, not {width}.")
    if alternate:
        every = theta ** (-mx.arange(0, width, 2) / width)
        of_rows, of_columns = every[0::2], every[1::2]
    else:
        of_rows = of_columns = theta ** (-mx.arange(0, width // 2, 2) / (width // 2))
    row, column = positions[..., :1], positions[..., 1:]
    return mx.concatenate([row * of_rows, column * of_columns], axis=-1)
