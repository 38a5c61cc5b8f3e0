"""A weight map is read both ways, and says what doesn't fit."""

import mlx.core as mx
import pytest

from mlx_transformers.convert.rows import Row, moved, rows, under, without
from mlx_transformers.convert.transforms import Split, Stack
from mlx_transformers.convert.weights import renamed, to_ours, to_theirs
from mlx_transformers.core.errors import ConvertError

TABLE = [
    Row("table", "wte"),
    Row("head", "lm_head"),
    *rows("blocks.{i}.{up,down}", "h.{i}.mlp.{fc,proj}"),
    Row(("blocks.{i}.q", "blocks.{i}.k"), "h.{i}.qk", Split((2, 1))),
    Row("blocks.{i}.experts.w", "h.{i}.experts.{e}.w1", Stack(), experts=2),
]
SHAPES = {
    "table.weight": (4, 3),
    "blocks.0.up.weight": (5, 3),
    "blocks.0.up.bias": (5,),
    "blocks.0.down.weight": (3, 5),
    "blocks.0.q.weight": (2, 3),
    "blocks.0.k.weight": (1, 3),
    "blocks.0.experts.w.weight": (2, 3, 3),
}
THEIRS = {
    "wte.weight": (4, 3),
    "h.0.mlp.fc.weight": (5, 3),
    "h.0.mlp.fc.bias": (5,),
    "h.0.mlp.proj.weight": (3, 5),
    "h.0.qk.weight": (3, 3),
    "h.0.experts.0.w1.weight": (3, 3),
    "h.0.experts.1.w1.weight": (3, 3),
}
TIED = {"lm_head.weight": "wte.weight"}


def tensors() -> dict[str, mx.array]:
    return {n: mx.random.normal(s, key=mx.random.key(i)) for i, (n, s) in enumerate(THEIRS.items())}


def test_both_ways_give_back_what_came_in() -> None:
    theirs = tensors()
    ours = to_ours(TABLE, SHAPES, theirs)
    assert {name: array.shape for name, array in ours.items()} == SHAPES
    back = to_theirs(TABLE, ours)
    assert back.keys() == theirs.keys()
    assert all(mx.array_equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("h.0.mlp.fc.bias"), "lacks h.0.mlp.fc.bias"),
        (lambda t: t.update({"h.0.mlp.proj.bias": mx.zeros(3)}), "doesn.t use: h.0.mlp.proj.bias"),
        (lambda t: t.update({"h.1.qk.weight": mx.zeros((3, 3))}), "doesn.t use: h.1.qk.weight"),
        (lambda t: t.update({"wte.weight": mx.zeros((5, 3))}), r"wte.weight \[5, 3\] gives table"),
        (lambda t: t.update({"h.0.qk.weight": mx.zeros((4, 3))}), r"h.0.qk.weight \[4, 3\]"),
        (lambda t: t.update({"lm_head.weight": mx.zeros((4, 3))}), "other numbers there"),
        (lambda t: t.update({"h.0.experts.1.w1.weight": mx.zeros((2, 3))}), "h.0.experts"),
    ],
)
def test_what_does_not_fit_is_named(change, said) -> None:  # type: ignore[no-untyped-def]
    theirs = tensors()
    change(theirs)
    with pytest.raises(ConvertError, match=said):
        to_ours(TABLE, SHAPES, theirs, tied=TIED)


def test_a_tied_copy_is_no_stranger() -> None:
    theirs = tensors()
    theirs["lm_head.weight"] = theirs["wte.weight"]
    assert to_ours(TABLE, SHAPES, theirs, tied=TIED).keys() == SHAPES.keys()


def test_a_parameter_without_a_row_is_an_error() -> None:
    with pytest.raises(ConvertError, match=r"no row for our 'blocks\.0\.norm\.weight'"):
        to_ours(TABLE, SHAPES | {"blocks.0.norm.weight": (3,)}, tensors())


def test_published_names_are_translated_and_buffers_dropped() -> None:
    found = renamed(
        {"wte.gamma": mx.zeros(1), "x.wpe": mx.zeros(1), "x.h.inv_freq": mx.zeros(1)},
        ((r"^(?!x\.)", "x."), (r"gamma$", "weight")),
        (r"inv_freq$",),
    )
    assert found.keys() == {"x.wte.weight", "x.wpe"}
    with pytest.raises(ConvertError, match=r"'x\.a'"):
        renamed({"a": mx.zeros(1), "x.a": mx.zeros(1)}, ((r"^(?!x\.)", "x."),), ())


@pytest.mark.parametrize("leaf", ["lora_a", "scales", "biases"])
def test_adapters_and_quantized_matrices_never_leave_as_a_plain_model(leaf: str) -> None:
    ours = {name: mx.zeros(shape) for name, shape in SHAPES.items()}
    with pytest.raises(ConvertError, match=f"'blocks.0.up' holds '{leaf}' beside its weight"):
        to_theirs(TABLE, ours | {f"blocks.0.up.{leaf}": mx.zeros(3)})


def test_rows_are_moved_and_left_out_by_module() -> None:
    table = [Row("a.x", "h.x"), Row(("a.q", "a.k"), "h.qk"), Row("ab.x", "i.x")]
    assert under(table, "l", "m")[1] == Row(("l.a.q", "l.a.k"), "m.h.qk")
    assert without(table, "a") == table[2:] == without(table, "a.x", ("a.q", "a.k"))
    assert moved(table, ("a", "b.c"), ("h", "k")) == [
        Row("b.c.x", "k.x"),
        Row(("b.c.q", "b.c.k"), "k.qk"),
    ]
    assert moved(table, ("a", "")) == [Row("x", "h.x"), Row(("q", "k"), "h.qk")]
