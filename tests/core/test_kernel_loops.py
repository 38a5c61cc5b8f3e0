"""Kernels with rewritten loops compute what the operations one by one do, bit for bit."""

import mlx.core as mx
import pytest

from mlx_transformers.ops.sums import row_max

ROWS = 3
WIDTHS = [1, 5, 15, 16, 17, 255, 256, 257, 700]
"""Around `LEAST` and `ROW` of core/kernel_loops.py."""


def drawn(*shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    x = mx.random.normal(shape, key=mx.random.key(sum(shape))).astype(dtype)
    mx.eval(x)
    return x


OPERANDS = {
    "one number for each row": lambda width: drawn(ROWS, 1),
    "one row for all": lambda width: drawn(1, width),
    "part of longer rows": lambda width: drawn(ROWS, width + 3)[:, 2:-1],
    "every second number": lambda width: drawn(ROWS, 2 * width)[:, ::2],
    "transposed": lambda width: drawn(width, ROWS).T,
    "backwards": lambda width: drawn(ROWS, width)[:, ::-1],
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("operand", OPERANDS.values(), ids=list(OPERANDS))
def test_operands_of_any_stride(operand, width: int) -> None:
    def f(x: mx.array, y: mx.array) -> mx.array:
        return mx.exp(x - y) * 0.5 + y

    x, y = drawn(ROWS, width), operand(width)
    assert mx.array_equal(mx.compile(f)(x, y), f(x, y))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.int32, mx.bool_])
def test_numbers_of_any_type(dtype: mx.Dtype) -> None:
    def f(x: mx.array, y: mx.array) -> mx.array:
        return mx.where(x > y, x, y) == y

    x, y = drawn(ROWS, 300, dtype=dtype), drawn(300, ROWS, dtype=dtype).T
    assert mx.array_equal(mx.compile(f)(x, y), f(x, y))


def test_a_result_may_take_the_memory_of_an_operand() -> None:
    def f(x: mx.array, y: mx.array) -> mx.array:
        return (x * 2 + y) @ mx.eye(x.shape[-1])

    y = drawn(ROWS, 1)
    compiled = mx.compile(lambda x: f(x * x, y))
    x = drawn(ROWS, 300)
    assert mx.allclose(compiled(x), f(x * x, y))


@pytest.mark.parametrize("width", [1, 15, 16, 48, 100])
def test_the_largest_of_each_row(width: int) -> None:
    x = drawn(2, ROWS, width)
    assert mx.array_equal(row_max(x), x.max(axis=-1, keepdims=True))
