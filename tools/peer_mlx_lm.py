"""Perplexity of mlx-lm's own quantizers, on the rows that compression_table.py --peer wrote.

    python tools/peer_mlx_lm.py FOLDER

Runs where mlx-lm is installed. The embedding and the head get the bits of the rest, as in the table
beside which this one stands, so that sizes are equal. On the CPU, where MLX's products with packed
matrices are slow, packed layers compute with dequantized ones; mlxt on the path gives both sides
the same matrix library.
"""

import argparse
import contextlib
import copy
import math
import sys
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    import mlx_transformers  # noqa: F401  before mlx

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.quant.awq import AWQ_MODEL_CONFIGS, awq_quantize
from mlx_lm.quant.dynamic_quant import estimate_sensitivities, estimate_threshold
from mlx_lm.quant.gptq import gptq_quantize
from mlx_lm.utils import compute_bits_per_weight, load_model

GPTQ_BITS = (2, 4, 8)
"""Bits that mlx-lm's GPTQ packs."""


BESIDE = {6: (5, 8), 4: (3, 5), 3: (2, 4)}
"""Fewer and more bits that mlx-lm's mixed precision chooses from, at the size of these."""
METHODS = ("plain", "gptq", "awq", "dynamic")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--bits", default="8,6,4,3,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--awq-rows", type=int, help="rows that AWQ reads; default all")
    options = parser.parse_args()
    methods = options.methods.split(",")
    if mx.default_device() == mx.cpu:
        nn.QuantizedLinear.__call__ = dequantized
        nn.QuantizedEmbedding.as_linear = dequantized
    calibration, held_out = (
        mx.array(np.load(options.folder / f"{name}.npy")) for name in ("calibration", "held_out")
    )
    print(f"| bits | {' | '.join(f'mlx-lm {name}' for name in methods)} |")
    print("|---|" + "---|" * len(methods), flush=True)
    for bits in map(int, options.bits.split(",")):
        cells = []
        for method in methods:
            rows = calibration[: options.awq_rows] if method == "awq" else calibration
            model = MADE[method](loaded(options.folder), rows, bits, options.group_size)
            if model is None:
                cells.append("none")
                continue
            cells.append(f"{perplexity(model, held_out):.3f}")
            size = compute_bits_per_weight(model)
            print(f"{bits} bits, {method}: {cells[-1]}, {size:.3f}", file=sys.stderr, flush=True)
        print(f"| {bits} | {' | '.join(cells)} |", flush=True)
    print(f"\nIn float32: {perplexity(loaded(options.folder), held_out):.3f}.")


def plain(model: Any, rows: mx.array, bits: int, group: int) -> Any:
    """Rounded to nearest."""
    nn.quantize(model, group_size=group, bits=bits)
    return model


def gptq(model: Any, rows: mx.array, bits: int, group: int) -> Any:
    """GPTQ; None for bits that it doesn't pack."""
    if bits not in GPTQ_BITS:
        return None
    return gptq_quantize(model, rows[:, :-1], bits, group, bits, group)[0]


def awq(model: Any, rows: mx.array, bits: int, group: int) -> Any:
    """AWQ."""
    awq_quantize(
        model,
        rows[:, :-1],
        AWQ_MODEL_CONFIGS[model.model_type],
        bits=bits,
        group_size=group,
        embed_bits=bits,
        embed_group_size=group,
    )
    return model


def dynamic(model: Any, rows: mx.array, bits: int, group: int) -> Any:
    """Mixed precision at the size of `bits`; None where there are no bits on both sides."""
    if bits not in BESIDE:
        return None
    low, high = BESIDE[bits]
    sizes = (low, group, high, group)
    costs = dict(estimate_sensitivities(model, rows[:, :-1], *sizes, batch_size=1))
    equal = plain(copy.deepcopy(model), rows, bits, group)
    target = compute_bits_per_weight(equal)
    threshold = estimate_threshold(model, costs, target, *sizes)

    def chosen(path: str, layer: Any) -> Any:
        if not hasattr(layer, "to_quantized"):
            return False
        return {"bits": high, "group_size": group} if costs[path] > threshold else True

    nn.quantize(model, group_size=group, bits=low, class_predicate=chosen)
    return model


MADE = {"plain": plain, "gptq": gptq, "awq": awq, "dynamic": dynamic}
"""The function that makes the model of each method."""


def dequantized(layer: Any, x: mx.array) -> mx.array:
    """The product of a packed layer, by its dequantized matrix."""
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    y = x @ mx.dequantize(layer.weight, layer.scales, layer.biases, **how).T
    return y + layer.bias if "bias" in layer else y


def loaded(folder: Path) -> Any:
    """The model of the folder."""
    return load_model(folder / "model")[0]


def perplexity(model: Any, rows: mx.array) -> float:
    """That of rows `[N, T + 1]`."""
    losses = []
    for start in range(0, len(rows), 8):
        batch = rows[start : start + 8]
        logits = model(batch[:, :-1]).astype(mx.float32)
        losses.append(nn.losses.cross_entropy(logits, batch[:, 1:]).sum())
        mx.eval(losses[-1])
    return math.exp(sum(loss.item() for loss in losses) / rows[:, 1:].size)


if __name__ == "__main__":
    main()
