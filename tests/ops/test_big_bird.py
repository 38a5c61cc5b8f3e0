"""BigBird's random blocks are those that transformers draws, seeded alike."""

import pytest

from mlx_transformers.ops.big_bird import random_blocks

BY_HEADS = [
    [[6, 4], [5, 7], [7, 5], [2, 7], [3, 2], [2, 4], [5, 4], [1, 5]],
    [[6, 4], [5, 4], [5, 6], [6, 7], [1, 7], [3, 2], [3, 2], [1, 2]],
]
BY_THE_FIRST_PLAN = [[[5, 4], [4, 6], [6, 5], [6, 7], [7, 1], [4, 2]]]


def test_blocks_are_those_of_transformers() -> None:
    """Both as `BigBirdBlockSparseAttention` of transformers 5.24 draws them in training."""
    drawn = random_blocks(10, 1, n_random=2, n_heads=2, seed=3, longest=64)
    assert drawn.tolist() == BY_HEADS
    old = random_blocks(1024, 128, n_random=2, n_heads=1, seed=1, longest=1280)
    assert old.tolist() == BY_THE_FIRST_PLAN


def test_rows_that_are_read_in_full_have_none() -> None:
    with pytest.raises(ValueError, match="9 blocks are too few for 2 random ones; 10 do"):
        random_blocks(9, 1, n_random=2, n_heads=1, seed=0, longest=64)
