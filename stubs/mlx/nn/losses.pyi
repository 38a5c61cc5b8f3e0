from typing import Literal

import mlx.core as mx

Reduction = Literal["none", "mean", "sum"]

def binary_cross_entropy(
    inputs: mx.array,
    targets: mx.array,
    weights: mx.array | None = None,
    with_logits: bool = True,
    reduction: Reduction = "mean",
) -> mx.array: ...
