"""Grids of rotary positions, patches, contrastive losses, resizing and log-mel features."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.data.pictures.preprocess import Preprocess, centre_crop, short_side
from mlx_transformers.data.pictures.resize import resize, resize_float
from mlx_transformers.data.sound.log_mel import HOP, log_mel, mel_filters
from mlx_transformers.layers.evoformer.block import EvoformerBlock
from mlx_transformers.layers.evoformer.sizes import EvoformerSizes
from mlx_transformers.ops.contrastive import clip_losses, pair_logits, siglip_losses
from mlx_transformers.ops.patches import patches, resample_table, unpatch
from mlx_transformers.ops.rotary import rotate_by
from mlx_transformers.ops.rotary_grid import (
    grid_angles,
    grid_positions,
)

from .compare import assert_close, draw


@pytest.mark.parametrize("alternate", [False, True])
def test_scores_depend_on_the_offset_in_rows_and_columns_alone(alternate: bool) -> None:
    q, k = draw(1, 1, 1, 1, 8), draw(2, 1, 1, 1, 8)

    def score(at: tuple[int, int], other: tuple[int, int]) -> float:
        angles = grid_angles(mx.array([at, other]), 8, alternate=alternate)
        turned = rotate_by(mx.concatenate([q, k], axis=2), angles)
        return (turned[0, 0, 0] * turned[0, 0, 1]).sum().item()

    assert score((1, 2), (3, 5)) == pytest.approx(score((4, 0), (6, 3)), abs=1e-5)
    assert abs(score((1, 2), (3, 5)) - score((1, 2), (5, 3))) > 1e-3


def test_patches_of_a_square_follow_each_other_before_they_are_merged() -> None:
    assert grid_positions(2, 4, merge=2).tolist()[:5] == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    with pytest.raises(ValueError, match="no whole squares"):
        grid_positions(3, 4, merge=2)


def test_patches_come_back_as_the_picture() -> None:
    pixels = draw(3, 2, 6, 9, 2)
    assert_close(unpatch(patches(pixels, 3), 2, 3, 3), np.array(pixels))


def test_positions_keep_a_constant_when_resampled() -> None:
    table = mx.broadcast_to(mx.array([1.0, -2.0]), (6, 2))
    assert_close(resample_table(table, (2, 3), (5, 4)), np.tile([1.0, -2.0], (20, 1)))


def test_pairs_that_are_filler_change_no_loss() -> None:
    a, b = draw(4, 5, 3), draw(5, 5, 3)
    keep = mx.array([True, True, True, False, False])
    for losses in (clip_losses, siglip_losses):
        part = losses(pair_logits(a[:3], b[:3], mx.array(1.0)))
        whole = losses(pair_logits(a, b, mx.array(1.0)), keep)
        assert_close(whole[:3], np.array(part))
        assert whole[3:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_resizing_is_that_of_pillow_to_the_bit(kind: str) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(1).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    for height, width in ((7, 9), (30, 11)):
        theirs = image.fromarray(picture).resize((width, height), image.Resampling[kind.upper()])
        assert np.array_equal(resize(picture, height, width, kind), np.array(theirs))  # type: ignore[arg-type]


def test_preprocessing_keeps_the_ratio_and_pads_a_larger_crop_with_black() -> None:
    assert short_side(37, 52, 24) == (24, 33)
    assert short_side(52, 37, 24) == (33, 24)
    picture = np.full((4, 6, 3), 255, np.uint8)
    x = Preprocess(short=4, crop=(6, 4), mean=(0.5,) * 3, std=(0.5,) * 3)(picture)
    assert x.shape == (6, 4, 3)
    assert x[2, 2].tolist() == [1, 1, 1]
    assert x[0, 0].tolist() == [-1] * 3
    assert centre_crop(picture, 2, 2).shape == (2, 2, 3)
    assert (
        resize_float(picture, 2, 3, "bilinear", antialias=False).tolist() == [[[255] * 3] * 3] * 2
    )


def test_log_mel_finds_a_tone_in_its_filter() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 16_000).astype(np.float32)
    x = log_mel(tone, 128, length=8000)
    assert x.shape == (8000 // HOP, 128)
    centre = mel_filters(128)[:, x[10].argmax()].argmax() * 40
    assert abs(centre - 1000) <= 40
    with pytest.raises(ValueError, match="too short"):
        log_mel(np.zeros(100, np.float32))


def test_padding_changes_no_real_entry_of_an_evoformer_block() -> None:
    block = EvoformerBlock(EvoformerSizes(4, 2, 2, 4, 2, 2, 3, 2, factor=2, outer_first=True))
    m, z = draw(6, 1, 3, 4, 4), draw(7, 1, 4, 4, 4)
    mask = mx.zeros((1, 3, 4)).at[:, :2, :3].add(1.0)
    pair_mask = mx.zeros((1, 4, 4)).at[:, :3, :3].add(1.0)
    want_m, want_z = block(m[:, :2, :3], z[:, :3, :3])
    got_m, got_z = block(m, z, mask, pair_mask)
    assert_close(got_m[:, :2, :3], np.array(want_m))
    assert_close(got_z[:, :3, :3], np.array(want_z))
