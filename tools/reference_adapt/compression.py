"""Quantization and pruning of one layer."""

import mlx.core as mx
import numpy as np
from reference_ops import integers
from reference_ops.pruning import input_norms, structured_mask
from reference_ops.rounding import (
    AffineGrids,
    AffineLevels,
    group_round,
    output_error,
    scale_errors,
)

from mlx_transformers.ops import gptq, packed, pruning
from mlx_transformers.ops.hessian import DAMP
from mlx_transformers.ops.sparsegpt import sparsegpt
from reference_adapt.numeric import Arrays, Options, Rule

TYPES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
}


def hessian(x: np.ndarray) -> np.ndarray:
    """`2 XᵀX / n` of inputs `[n, in]` in float64."""
    rows = np.asarray(x, dtype=np.float64)
    return 2 / len(rows) * rows.T @ rows


def observers(options: Options, x: Arrays) -> Arrays:
    """Min-max integer quantization, per tensor or channel."""
    low, high = TYPES[options["dtype"]]
    own = "min" in options
    low, high = options.get("min", low), options.get("max", high)
    if options.get("reduce_range"):
        low, high = low // 2, high // 2
    middle = (low + high) // 2 if own else 128
    grid = integers.grid_of(
        x["x"],
        low,
        high,
        symmetric=options["symmetric"],
        axis=options.get("axis"),
        zero=middle if options["dtype"] == "uint8" else None,
    )
    codes = grid.codes(x["x"])
    return {
        "scale": grid.scale.reshape(-1),
        "zero_point": grid.zero.reshape(-1).astype(mx.int64),
        "codes": codes.astype(mx.int64),
        "dequantized": grid.values(codes),
    }


def fake_quantization(options: Options, x: Arrays) -> Arrays:
    """Fake quantization by tensor, by channel, or with a learned step."""
    values = x["x"]
    if "channel" in options["kind"]:
        shape = [1] * values.ndim
        shape[options.get("axis", 0)] = -1
        scale, zero = x["scales"].reshape(shape), x["zero_points"].reshape(shape)
    else:
        scale = x["scale"] if "scale" in x else mx.array(float(options["scale"]))
        zero = x["zero_point"] if "zero_point" in x else mx.array(float(options["zero_point"]))
    gain = options.get("grad_factor", 1.0)

    def run(values: mx.array, scale: mx.array, zero: mx.array) -> list[mx.array]:
        low, high = options["min"], options["max"]
        return [integers.fake_quantize(values, scale, zero, low, high, gain)]

    primals = [values, scale, zero.astype(mx.float32)]
    (y,), grads = mx.vjp(run, primals, [x["upstream"]])
    return {
        "y": y,
        "grad_x": grads[0],
        "grad_scale": grads[1].reshape(-1),
        "grad_zero_point": grads[2].reshape(-1),
    }


def mlx_packing(options: Options, x: Arrays) -> Arrays:
    """MLX's own packings."""
    how = packed.Packing(options["bits"], options["group_size"], options["mode"])
    parts = packed.pack(x["weight"], how)
    out = {"packed": parts[0], "scales": parts[1], "dequantized": packed.unpack(parts, how)}
    out["matmul"] = packed.product(x["x"], parts, how)
    return out | ({"biases": parts[2]} if len(parts) == 3 else {})


def gptq_layer(options: Options, x: Arrays) -> Arrays:
    """GPTQ with integer zero points."""
    weight, h = np.array(x["weight"], np.float64), hessian(np.array(x["activations"]))
    grids = AffineGrids(options["bits"], options["symmetric"])
    found = gptq.gptq(
        weight,
        h,
        grids,
        group=options["group"],
        by_diagonal=options["act_order"],
        damp=options["damp"],
    )
    levels = [level for level in found.levels if isinstance(level, AffineLevels)]
    return {
        "codes": mx.array(found.codes.astype(np.int64)),
        "scales": single(np.stack([level.scale for level in levels], axis=1)),
        "zeros": single(np.stack([level.zero for level in levels], axis=1)),
        "dequantized": single(found.values),
        "error": mx.array([output_error(weight, found.values, h)]),
    }


def gptq_mlx(options: Options, x: Arrays) -> Arrays:
    """GPTQ in MLX's affine groups."""
    weight, h = np.array(x["weight"], np.float64), hessian(np.array(x["activations"]))
    how = packed.Packing(options["bits"], options["group_size"], options.get("mode", "affine"))
    found = gptq.gptq(weight, h, gptq.MlxGrids(how), group=how.group_size)
    levels = [level for level in found.levels if isinstance(level, gptq.MlxLevels)]
    return {
        "packed": packed.packed_codes(found.codes, how.bits),
        "scales": single(np.stack([level.scale for level in levels], axis=1)),
        "biases": single(np.stack([level.bias for level in levels], axis=1)),
        "dequantized": single(found.values),
        "error": mx.array([output_error(weight, found.values, h)]),
    }


def awq_layer(options: Options, x: Arrays) -> Arrays:
    """AWQ's search with integer zero points, or in MLX's affine groups."""

    def quantize(weight: mx.array) -> mx.array:
        if "group_size" in options:
            size, mode = options["group_size"], options.get("mode", "affine")
            return packed.rounded(weight, packed.Packing(options["bits"], size, mode))
        return group_round(weight, options["bits"], options["group"])

    weight = x["weight"]
    errors, scales = scale_errors(weight, x["activations"], quantize, options["grid"])
    best = int(mx.argmin(errors).item())
    return {
        "errors": errors,
        "best": mx.array([best]),
        "scales": scales[best],
        "dequantized": quantize(weight * scales[best]) / scales[best],
    }


def magnitude(options: Options, x: Arrays) -> Arrays:
    """Masks of several matrices by magnitude."""
    names, kind, amount = sorted(x), options["kind"], options.get("amount", 0.0)
    weights = [x[name] for name in names]
    if kind == "n_m":
        n, m = options["n"], options["m"]
        masks = [pruning.n_of_m_mask(mx.abs(weight), n, m) for weight in weights]
    elif kind == "structured":
        order, axis = float(options.get("n", 2)), options.get("dim", 0)
        masks = [structured_mask(weight, amount, order=order, axis=axis) for weight in weights]
    else:
        masks = repeated(weights, options)
    return {f"mask_{name}": mask for name, mask in zip(names, masks, strict=True)}


def repeated(weights: list[mx.array], options: Options) -> list[mx.array]:
    """Unstructured masks, several times of what is left where the options give a count."""
    amount, together = options["amount"], "global" in options["kind"]
    counts = [v for k, v in options.items() if k not in ("kind", "amount", "dim", "n", "m")]
    times = next((v for v in counts if isinstance(v, int) and not isinstance(v, bool)), 1)
    amounts = amount if isinstance(amount, list) else [amount] * times
    masks = [mx.ones(weight.shape, mx.bool_) for weight in weights]
    for each in amounts:
        if together:
            masks = pruning.global_masks(weights, each, masks)
        else:
            pairs = zip(weights, masks, strict=True)
            masks = [pruning.magnitude_mask(weight, each, mask) for weight, mask in pairs]
    return masks


def wanda(options: Options, x: Arrays) -> Arrays:
    """Wanda on one layer."""
    norms = input_norms(x["activations"], options.get("norm", "sum"))
    scores = pruning.wanda_scores(x["weight"], norms)
    if "m" in options:
        mask = pruning.n_of_m_mask(scores, options["n"], options["m"])
    else:
        mask = pruning.wanda_mask(scores, options["sparsity"])
    return {"scores": scores, "mask": mask, "pruned": mx.where(mask, x["weight"], 0)}


def sparse_gpt(options: Options, x: Arrays) -> Arrays:
    """SparseGPT on one layer."""
    weight, h = np.array(x["weight"], np.float64), hessian(np.array(x["activations"]))
    found = sparsegpt(
        weight,
        h,
        options.get("sparsity", 0.5),
        n_of_m=(options["n"], options["m"]) if "m" in options else None,
        block=options.get("block", 128),
        damp=options.get("damp", DAMP),
    )
    return {
        "mask": mx.array(found.mask),
        "pruned": single(found.weight),
        "error": mx.array([output_error(weight, found.weight, h)]),
    }


def single(values: np.ndarray) -> mx.array:
    """An array in float32."""
    return mx.array(values.astype(np.float32))


PACKING: Options = {"bits": 4, "group_size": 64, "mode": "affine"}
SEARCH: Options = {"bits": 4, "grid": 20}
GPTQ: Options = {"bits": 4, "group": None, "symmetric": False, "act_order": False, "damp": DAMP}

RULES = (
    Rule(r"MinMaxObserver", observers, defaults={"dtype": "uint8", "symmetric": False}),
    Rule(r"fake_quantize", fake_quantization),
    Rule(r"mlx\.core\.quantize", mlx_packing, defaults=PACKING),
    Rule(r"mlx_lm\.quant\.gptq", gptq_mlx, defaults=PACKING),
    Rule(r"mlx_lm\.quant\.awq", awq_layer, defaults={**PACKING, **SEARCH}),
    Rule(r"utils\.prune", magnitude),
    Rule(r"Sun et al\. 2023", wanda),
    Rule(r"Frantar and Alistarh 2023", sparse_gpt),
    Rule(r"Frantar et al\. 2022", gptq_layer, defaults=GPTQ),
    Rule(r"Lin et al\. 2023", awq_layer, defaults={**SEARCH, "group": None}),
)
