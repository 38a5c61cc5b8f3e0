"""Group 7: reversible residuals."""

import mlx.core as mx

from mlx_transformers.ops.activations import gelu
from mlx_transformers.ops.reversible import reversible
from reference_groups.case import Arrays, Case, Rule


def normed(x: mx.array) -> mx.array:
    """Layer norm without weights."""
    return mx.fast.layer_norm(x, None, None, 1e-5)


def stack(case: Case) -> Arrays:
    """Layers of `f = tanh(LN w + b)` and `g = gelu(LN w + b) + 0.2 cumsum(LN)`."""

    def f(own: Arrays, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        return mx.tanh(normed(x) @ own["w"] + own["b"]), []

    def g(own: Arrays, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        h = normed(x)
        return gelu(h @ own["w"] + own["b"]) + 0.2 * mx.cumsum(h, axis=1), []

    depth = case.options["depth"]
    names = [f"{name}{i}" for i in range(depth) for name in "fg"]
    own = [{key: case.params[f"{name}.{key}"] for key in "wb"} for name in names]
    x1, x2 = mx.split(case.inputs["x"], 2, axis=-1)
    y1, y2, _ = reversible([f, g] * depth, own, x1, x2)
    return {"out": mx.concatenate([y1, y2], axis=-1)}


RULES = (Rule(r"ReversibleSequence|reversible residual", stack),)
