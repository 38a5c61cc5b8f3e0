"""Declared costs of kinds against measurement: saved activations, operations, parts.

Saved bytes are measured in eager mode: the forward of a vjp is evaluated, and what its backward
still refers to stays allocated. Eager mode saves a few elementwise intermediates that a compiled
step fuses, so a kind may declare less, within `LEAST`.
"""

from collections.abc import Callable
from math import prod
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.core.footprint import ActivationShape
from mlx_transformers.layers.kinds import Mixer, MixerKind, PositionKind, SplitKind
from mlx_transformers.layers.norms import RmsNorm
from mlx_transformers.layers.parameter import parameters_of
from mlx_transformers.layers.sharding import splits
from mlx_transformers.ops.device import on_cpu
from mlx_transformers.recipe.slot import KINDS, fill

from .rows import ROWS
from .suite import VOCAB, Row, earlier, parse, randomize

B, T, D = 4, 64, 64
LEAST, MOST = 0.55, 1.15
"""Bounds of declared bytes, as shares of the measured ones without and with the output."""

COSTED = ("mixer", "ffn", "norm", "cell", "head")


def rows(*slots: str) -> list[Any]:
    return [pytest.param(row, id=str(row)) for row in ROWS if row.slot in slots]


class Costed(nn.Module):
    """A kind at the sizes B, T, D: `x [B, T, D] -> y`."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        # the products are the same for all, and only some activations can be exported
        changes = {"activation": "relu"} if "activation" in row.config else {}
        self.row, kind = row, row.parse(**changes)
        self.kind = kind
        sizes = {"cell": (D, D), "head": (VOCAB, D)}.get(row.slot, (D,))
        self.it = randomize(kind.build(*sizes), 0)
        self.position = parse("position", row.position).build(D, T)
        self.memory = mx.random.normal((B, T, D), key=mx.random.key(1))
        mx.eval(self.parameters())

    def __call__(self, x: mx.array, training: bool = True) -> mx.array:
        ctx = Context(memory=self.memory, position=self.position)
        ctx.key, ctx.earlier = mx.random.key(0) if training else None, earlier(x)
        if self.row.slot == "norm":
            return self.it(x)
        if self.row.slot == "cell":
            return self.it(x, self.it.init_state(B, x.dtype), ctx)[0]
        if self.row.slot == "head":
            return self.it(x) if self.row.kind == "tags" else self.it.transform(x)
        return self.it(x, ctx)

    def shape(self) -> ActivationShape:
        position: PositionKind = parse("position", self.row.position)
        return ActivationShape(B, T, cpu=on_cpu(), biased=position.adds_to_scores, memory=T)


def saved(costed: Costed, x: mx.array) -> tuple[int, int]:
    """Bytes that the backward refers to when the forward has run, without and with the output."""
    leaves = tree_flatten(costed.it.trainable_parameters())

    def run(x: mx.array, *values: mx.array) -> mx.array:
        costed.it.update(tree_unflatten([(n, v) for (n, _), v in zip(leaves, values, strict=True)]))
        return costed(x * 1.0)  # a copy of the input, which is freed unless the backward needs it

    inputs = [x, *(value for _, value in leaves)]
    out = run(*inputs)
    cotangent = mx.ones(out.shape, out.dtype)
    mx.eval(cotangent, inputs, out)
    size = out.nbytes
    del out
    mx.clear_cache()  # a buffer that is used again may be larger than what it holds
    before = mx.get_active_memory()
    outs, gradients = mx.vjp(run, inputs, [cotangent])
    mx.eval(outs)
    found = mx.get_active_memory() - before
    mx.eval(gradients)
    return found - size, found


@pytest.mark.skipif(not on_cpu(), reason="measured on the CPU's forms")
@pytest.mark.parametrize("row", rows(*COSTED))
def test_saved_bytes_are_those_that_the_backward_needs(row: Row) -> None:
    costed = Costed(row)
    sizes = (D, D) if row.slot == "cell" else (D,)
    position: PositionKind = parse("position", row.position)
    declared = costed.kind.saved_bytes(*sizes, costed.shape())
    declared = B * T * (declared + position.saved_bytes(D, costed.shape()))
    without, with_output = saved(costed, mx.random.normal((B, T, D), key=mx.random.key(2)))
    assert declared >= LEAST * without - 64  # bytes of scalars
    assert declared <= MOST * with_output


class PlainFunction:
    """`mx.custom_function` without its gradients: a graph with one can't be exported."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def vjp(self, backward: Any) -> Any:
        return backward


def product_operations(
    costed: Callable[..., mx.array], x: mx.array, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Multiplications and additions of all products and convolutions of a forward pass."""
    monkeypatch.setattr(mx, "custom_function", PlainFunction)
    monkeypatch.setattr(mx, "checkpoint", lambda function: function)
    monkeypatch.setattr(mx, "contiguous", lambda x: x)
    monkeypatch.setattr(mx, "depends", lambda inputs, _: inputs)
    total = 0

    def count(node: dict[str, Any]) -> None:
        nonlocal total
        if node.get("name") in ("Matmul", "AddMM"):
            inner = node["inputs"][0][1][-1]
            total += 2 * inner * prod(node["outputs"][0][1])
        if node.get("name") == "Convolution":
            total += 2 * prod(node["inputs"][1][1][1:]) * prod(node["outputs"][0][1])

    mx.export_function(count, lambda x: costed(x, training=False), x)
    return total


BESIDE = ("shaw", "transformer_xl", "disentangled")
"""Positions that multiply queries by tables of their own, and count that themselves."""


def counted() -> list[Any]:
    """Rows of mixers and ffns whose products are all Matmul: experts multiply in groups."""
    sparse = ("moe", "expert_choice")
    found = [row for row in ROWS if row.slot in ("mixer", "ffn") and row.kind not in sparse]
    return [pytest.param(r, id=str(r)) for r in found if r.position["kind"] not in BESIDE]


@pytest.mark.skipif(not on_cpu(), reason="counted in the CPU's forms")
@pytest.mark.parametrize("row", counted())
def test_flops_are_the_products_beyond_the_weights(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    costed = Costed(row)
    x = mx.random.normal((B, T, D), key=mx.random.key(2))
    products = product_operations(costed, x, monkeypatch) / (B * T)
    if not row.pairs:
        # products of weights alone, such as powers of a state matrix, are shared by all rows
        half = product_operations(costed, x[: B // 2], monkeypatch) / (B * T)
        products = 2 * (products - half)
    beyond = products - 2 * sum(
        each.array.size
        for each in parameters_of(costed.it)
        if each.array.ndim > 1
        and not isinstance(each.module, nn.Embedding)
        and (each.role != "own" or isinstance(each.module, nn.Linear))
    )
    # attention computes all pairs of a small row, and declares those that a mask lets it see
    if row.sparse:
        # blocks compute some pairs that no token sees (half of those around a causal query, and
        # more at the ends of rows), and never all of them
        flops = costed.kind.flops(D, T)  # below 0 where a projection runs for few tokens
        assert min(0.2 * beyond, 1.2 * beyond) <= flops <= beyond < 4.0 * D * T
        return
    dense = row.slot == "mixer" and row.kind != "cross_attention" and row.pairs
    seen = mean_share(row) if dense else 1.0
    assert costed.kind.flops(D, T) == pytest.approx(seen * beyond, rel=0.1, abs=1)


@pytest.mark.skipif(not on_cpu(), reason="counted in the CPU's forms")
@pytest.mark.parametrize("row", rows("align"))
def test_flops_of_an_alignment_are_its_products_for_each_query(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = row.parse()
    it = randomize(kind.build(D), 0)
    queries, source = (mx.random.normal((B, T, D), key=mx.random.key(i)) for i in range(2))
    keys = it.make_keys(source)
    mx.eval(keys, source)

    def read(h: mx.array, training: bool) -> mx.array:
        return it(h, keys, None) @ source

    weights = 0 if it.query is None else it.query.size
    weights += it.place.weight.size if "place" in it else 0
    products = product_operations(read, queries, monkeypatch) / (B * T)
    assert kind.flops(D, T) == pytest.approx(products - 2 * weights, rel=0.05)


@pytest.mark.skipif(not on_cpu(), reason="counted in the CPU's forms")
@pytest.mark.parametrize("kind", BESIDE)
def test_flops_of_a_position_are_its_products_in_a_layer(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = (row for row in ROWS if row.slot == "mixer" and row.name == kind)
    position: PositionKind = parse("position", row.position)
    costed = Costed(row)
    x = mx.random.normal((B, T, D), key=mx.random.key(2))
    found, half = (product_operations(costed, x[:n], monkeypatch) / (B * T) for n in (B, B // 2))
    weights = sum(
        each.array.size
        for part in (costed.it, costed.position)
        for each in parameters_of(part)
        if each.role == "matrix"
    )
    # projections of distances and of a table's rows are the same for all rows of the batch
    beyond = 2 * (found - half) - 2 * weights
    # all pairs and all distances are multiplied, and those that a causal row sees are declared
    unseen = 2 * D * (T - 1)
    if kind != "disentangled":
        unseen += 2 * D * (2 * T - 1 - (T + 1) / 2)
    declared = costed.kind.flops(D, T) + position.flops(D, T)
    # a bias by distance is one more feature of the scores' product
    assert declared == pytest.approx(beyond - unseen, abs=2 * 4 * T)


def mean_share(row: Row) -> float:
    """The share of all pairs of positions that a causal pass lets a mixer read."""
    return float(np.mean([[row.depends(t, s, causal=True) for s in range(T)] for t in range(T)]))


@pytest.mark.parametrize("row", rows("mixer", "ffn"))
def test_a_kind_has_parts_or_says_that_it_has_none(row: Row) -> None:
    kind: SplitKind = row.parse()
    if splits(type(kind)):
        return  # tests/distributed/test_kinds.py compares the sum of its parts with the whole
    with pytest.raises(RecipeError, match=f"kind = '{kind.kind}' can't be split"):
        kind.part(D, 2)


def test_a_kind_of_the_wrong_slot_or_without_a_method_is_refused() -> None:
    class Silent(MixerKind):
        kind: Literal["silent"] = "silent"

        def build(self, dim: int) -> Mixer:
            raise NotImplementedError

    with pytest.raises(TypeError, match="Silent lacks methods of slot 'mixer': flops, saved_bytes"):
        fill("mixer", Silent, of=MixerKind)  # type: ignore[type-abstract]
    with pytest.raises(TypeError, match="RmsNorm fills slot 'mixer', so it must be a MixerKind"):
        fill("mixer", RmsNorm, of=MixerKind)
    assert "silent" not in KINDS["mixer"]
