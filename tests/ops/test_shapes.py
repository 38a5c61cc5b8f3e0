"""Shapes in signatures: a wrong one is an error in tests, and costs nothing elsewhere."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from checked_shapes import ShapeError, array_check, checked

from mlx_transformers.core import shapes
from mlx_transformers.ops.attention import attention
from mlx_transformers.ops.log_probs import linear_log_probs
from mlx_transformers.ops.lookup import lookup
from mlx_transformers.ops.masks import Mask
from mlx_transformers.ops.norms import rms_norm
from mlx_transformers.ops.unembedding import Unembedding


def ones(*shape: int) -> mx.array:
    return mx.ones(shape)


HEADS = [ones(2, 4, 3, 8), ones(2, 2, 3, 8), ones(2, 2, 3, 8)]


@pytest.mark.parametrize(
    ("op", "good", "bad"),
    [
        (rms_norm, (ones(2, 3), ones(3), 1e-5), (ones(2, 3), ones(2), 1e-5)),
        (lookup, (ones(5, 2), mx.array([[1]])), (ones(5, 2), mx.array([[1.0]]))),
        (
            linear_log_probs,
            (ones(3, 2), ones(5, 2), mx.array([1, 2, 3])),
            (ones(3, 2), ones(5, 2), mx.array([1, 2])),
        ),
        (Unembedding(ones(5, 2)).logits, (ones(1, 3, 2),), (3.0,)),
        (
            lambda *qkv: attention(*qkv, scale=1.0, mask=Mask()),
            HEADS,
            [HEADS[0], HEADS[1], ones(2, 1, 3, 8)],
        ),
    ],
)
def test_another_shape_or_type_is_an_error(op: Callable[..., Any], good: Any, bad: Any) -> None:
    pytest.importorskip("jaxtyping")
    op(*good)
    with pytest.raises(ShapeError):
        op(*bad)


def test_without_the_hook_nothing_is_checked_or_imported() -> None:
    code = (
        "import sys; import mlx_transformers.assembly.build;"
        "from mlx_transformers.core import shapes;"
        "print(shapes.ND.__name__, *{'jaxtyping'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["array"]


@pytest.mark.parametrize(
    ("words", "shape", "fit"),
    [
        ("B T ...", (2, 3), True),
        ("B T ...", (2, 3, 4, 5), True),
        ("B T ...", (2,), False),
        ("... T T", (7, 3, 3), True),
        ("... T T", (7, 3, 2), False),
        ("T 1 _", (3, 1, 8), True),
        ("T 1 _", (3, 2, 8), False),
        ("T+1", (3,), None),
    ],
)
def test_dimensions_are_letters_numbers_and_one_of_any_number(
    words: str, shape: tuple[int, ...], fit: bool | None
) -> None:
    jaxtyping = pytest.importorskip("jaxtyping")
    annotation = jaxtyping.Float[mx.array, words]
    if fit is None:
        with pytest.raises(TypeError):
            array_check(annotation)
    else:
        assert array_check(annotation)(ones(*shape), {}) is fit


def pair(rows: shapes.ND | None, table: shapes.VD) -> tuple[shapes.ND, list[shapes.N]]:
    return (table, [table]) if rows is None else (rows, [rows[:, 0], table[0]])


@pytest.mark.parametrize(
    ("rows", "table", "fault"),
    [
        (ones(3, 2), ones(5, 2), "return"),
        (ones(2, 2), ones(5, 2), None),
        (ones(2, 2), ones(5, 3), "table"),
        (ones(2), ones(5, 2), "rows"),
        (None, ones(5, 2), "return"),
    ],
)
def test_optional_arrays_and_the_parts_of_a_result_are_checked(
    rows: mx.array | None, table: mx.array, fault: str | None
) -> None:
    pytest.importorskip("jaxtyping")
    if fault is None:
        assert len(checked(pair)(rows, table=table)) == 2
    else:
        with pytest.raises(ShapeError, match=f"pair: {fault} is"):
            checked(pair)(rows, table=table)
