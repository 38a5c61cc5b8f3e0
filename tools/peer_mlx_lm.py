"""Perplexity of mlx-lm's own quantizers, on the rows that compression_table.py --peer wrote.

    python tools/peer_mlx_lm.py FOLDER

Runs where mlx-lm is installed; mlxt is not needed. The embedding and the head get the bits of the
rest, as in the table beside which this one stands, so that sizes are equal.
"""

import argparse
import math
from pathlib import Path
from typing import Any

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
    options = parser.parse_args()
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
        if bits in GPTQ_BITS:
            model = loaded(options.folder)
            gptq_quantize(model, calibration[:, :-1], bits, options.group_size, *how.values())
            cells.append(f"{perplexity(model, held_out):.3f}")
        else:
            cells.append("has no such bits")
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
