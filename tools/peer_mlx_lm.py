"""Perplexity of mlx-lm's own quantizers, on the rows that compression_table.py --peer wrote.

    python tools/peer_mlx_lm.py FOLDER

Runs where mlx-lm is installed. The embedding and the head get the bits of the rest, as in the table
beside which this one stands, so that sizes are equal. On the CPU, where MLX's products with packed
matrices are slow, packed layers compute with dequantized ones; mlxt on the path gives both sides
the same matrix library.
"""

import argparse
import contextlib
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
from mlx_lm.quant.gptq import gptq_quantize
from mlx_lm.utils import compute_bits_per_weight, load_model

GPTQ_BITS = (2, 4, 8)
"""Bits that mlx-lm's GPTQ packs."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--bits", default="8,6,4,3,2")
    parser.add_argument("--methods", default="plain,gptq,awq")
    options = parser.parse_args()
    methods = options.methods.split(",")
    if mx.default_device() == mx.cpu:
        nn.QuantizedLinear.__call__ = dequantized
        nn.QuantizedEmbedding.as_linear = dequantized
    calibration, held_out = (
        mx.array(np.load(options.folder / f"{name}.npy")) for name in ("calibration", "held_out")
    )
    print("| bits | bits per weight | mlx-lm plain | mlx-lm gptq | mlx-lm awq |")
    print("|---|---|---|---|---|", flush=True)
    for bits in map(int, options.bits.split(",")):
        how = {"bits": bits, "group_size": options.group_size}
        plain = loaded(options.folder)
        nn.quantize(plain, **how)
        cells = [f"{compute_bits_per_weight(plain):.2f}", f"{perplexity(plain, held_out):.3f}"]
        if "gptq" not in methods:
            cells.append("")
        elif bits in GPTQ_BITS:
            model = loaded(options.folder)
            gptq_quantize(model, calibration[:, :-1], bits, options.group_size, *how.values())
            cells.append(f"{perplexity(model, held_out):.3f}")
        else:
            cells.append("has no such bits")
        print(f"{bits} bits: {cells}", file=sys.stderr, flush=True)
        if "awq" not in methods:
            cells.append("")
        else:
            model = loaded(options.folder)
            config = AWQ_MODEL_CONFIGS[model.model_type]
            awq_quantize(
                model,
                calibration[:, :-1],
                config,
                embed_bits=bits,
                embed_group_size=options.group_size,
                **how,
            )
            cells.append(f"{perplexity(model, held_out):.3f}")
        print(f"| {bits} | {' | '.join(cells)} |", flush=True)
    print(f"\nIn float32: {perplexity(loaded(options.folder), held_out):.3f}.")


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
