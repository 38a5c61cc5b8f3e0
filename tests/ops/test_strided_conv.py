"""Convolutions with a stride as matrix products, against MLX's own."""

import pytest

from mlx_transformers.ops.strided_conv import strided_conv, strided_conv_naive

from .compare import COMPILED_OR_NOT, assert_same_gradients, draw


@COMPILED_OR_NOT
@pytest.mark.parametrize(
    ("length", "width", "stride"), [(8, 3, 1), (8, 3, 2), (9, 5, 3), (4, 1, 2)]
)
def test_it_is_the_definition_forward_and_backward(
    length: int, width: int, stride: int, compiled: bool
) -> None:
    args = [draw(1, 2, length, 4), draw(2, 6, width, 4), draw(3, 6)]
    assert_same_gradients(
        lambda *given: strided_conv(*given, stride, width // 2),
        lambda *given: strided_conv_naive(*given, stride, width // 2),
        args,
        compiled=compiled,
    )
