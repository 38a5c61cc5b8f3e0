"""Models that see and listen: places of patches, and inputs that don't fit."""

from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly import registry as _registry  # noqa: F401 - fills the slots
from mlx_transformers.assembly.published import typed_model
from mlx_transformers.core.errors import RunError

BLOCK = {
    "placement": "pre",
    "norm": {"kind": "rms_norm"},
    "mixer": {"kind": "attention", "n_heads": 2},
    "ffn": {"kind": "mlp", "hidden_dim": 8, "activation": "gelu"},
}
STACK: dict[str, Any] = {
    "dim": 8,
    "n_layers": 1,
    "block": BLOCK,
    "norm": {"kind": "none"},
    "init": {"kind": "fan_in"},
}
VISION = STACK | {
    "kind": "vision",
    "image_size": [2, 4],
    "embed": {"kind": "patches", "size": 2, "channels": 1},
    "position": {"kind": "grid", "rows": 1, "columns": 2},
}
LANGUAGE = STACK | {
    "kind": "decoder",
    "max_seq_len": 16,
    "embed": {"kind": "token"},
    "position": {"kind": "rope"},
    "head": {"kind": "lm", "tied": True},
}
VLM = {"kind": "vlm", "vision": VISION, "language": LANGUAGE, "image_token": 9}


def model(table: dict[str, Any]) -> Any:
    mx.random.seed(0)
    return typed_model(table, "a test").build(12)


def test_a_picture_is_read_where_its_tokens_stand_and_text_alone_without_it() -> None:
    vlm = model(VLM)
    tokens = mx.array([[1, 9, 9, 2], [3, 9, 9, 4]])
    pixels = mx.random.normal((2, 2, 4, 1))
    seen, other = vlm(tokens, None, pixels), vlm(tokens, None, pixels[::-1])
    changed = mx.abs(seen - other).max(axis=-1) > 1e-6
    assert changed.tolist() == [[False, True, True, True]] * 2
    text = mx.array([[1, 2, 3, 4]])
    assert mx.allclose(vlm(text), vlm(text, None, pixels[:1]))


def test_steps_read_the_patches_in_turn() -> None:
    vlm = model(VLM)
    tokens, pixels = mx.array([[1, 9, 9, 2, 9]]), mx.random.normal((1, 2, 4, 1))
    whole = vlm(tokens, None, pixels)
    state = vlm.init_state(1, 5, given={"pixels": pixels})
    parts = []
    for i in range(5):
        y, state = vlm.step(tokens[:, i : i + 1], state)
        parts.append(y)
    assert mx.allclose(mx.concatenate(parts, axis=1), whole, atol=1e-5)


def test_image_tokens_and_pictures_that_do_not_fit_are_named() -> None:
    vlm, pixels = model(VLM), mx.zeros((1, 2, 4, 1))
    vlm.admit(mx.array([[1, 9, 9]]), pixels)
    with pytest.raises(RunError, match=r"1 image tokens .* 2 patches"):
        vlm.admit(mx.array([[1, 9, 2]]), pixels)
    with pytest.raises(RunError, match=r"2 image tokens .* 0 patches"):
        vlm.admit(mx.array([[1, 9, 9]]), None)
    with pytest.raises(RunError, match="can't be shared out"):
        vlm(mx.array([[9, 9], [9, 9]]), None, mx.zeros((3, 2, 4, 1)))


def test_a_picture_of_another_size_has_resampled_positions() -> None:
    vit = model(VISION)
    assert vit(mx.zeros((1, 4, 6, 1))).shape == (1, 7, 8)
    assert vit(mx.zeros((1, 8))).shape == (1, 3, 8)


def test_pixels_that_fill_no_patch_are_left_out() -> None:
    vit, whole = model(VISION | {"image_size": [3, 5]}), model(VISION)
    pixels = mx.random.normal((1, 3, 5, 1))
    assert mx.array_equal(vit(pixels), whole(pixels[:, :2, :4]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_size": [1, 4]}, "less than a patch"),
        ({"embed": {"kind": "token"}}, "reads tokens, and this tower reads pixels"),
        ({"embed": VISION["embed"] | {"mean": [0.1, 0.2]}}, "2 numbers for 1 channels"),
    ],
)
def test_a_vision_table_that_does_not_fit_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        typed_model(VISION | change, "a test")
