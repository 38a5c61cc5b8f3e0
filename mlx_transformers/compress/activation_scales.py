"""AWQ of a whole model (Lin et al. 2023): scale weights, fold the inverse scales, clip groups.

The inverse scales go into the norm or the linear layer before. Which layers share scales follows
the published code for LLaMA.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..core.messages import LogFn
from ..layers.block import BlockModule
from ..layers.ffns.glu import GluFfn
from ..layers.linear import matrix
from ..layers.norms import ScaledNorm
from ..models.model import Model
from ..ops.awq import ROUND, best_clip, input_scales
from ..ops.packed import Packing, rounded
from .capture import linear_layers, read, recording

SAMPLES = 512
"""Input vectors of each layer that scales and clipping are measured on."""


@dataclass(frozen=True)
class Shared:
    """Layers that read the same input, and the module that the inverse scales are folded into.

    Attributes:
        layers: their paths.
        norm: the norm before them, or None.
        before: path of the linear layer that their input is a multiple of, or None.
    """

    layers: tuple[str, ...]
    norm: nn.Module | None = None
    before: str | None = None


def scale_and_clip(
    model: Model, choices: Mapping[str, Packing], rows: Sequence[mx.array], say: LogFn
) -> None:
    """Rescale and clip the weights of a model, in place, to reduce the error of rounding them.

    Rescaling doesn't change what the model computes; clipping does.

    Args:
        model: the model.
        choices: the packing of each layer by path.
        rows: batches of calibration text, `[B, T]`.
        say: reports progress.
    """
    layers = linear_layers(model)
    paths = [path for path in layers if path in choices]
    samples: dict[str, list[mx.array]] = {path: [] for path in paths}
    share = max(1, sum(tokens.size for tokens in rows) // SAMPLES)

    def see(path: str, x: mx.array) -> None:
        samples[path].append(x.reshape(-1, x.shape[-1])[::share].astype(mx.float32))
        mx.eval(samples[path][-1])

    with recording(model, paths, see):
        read(model, rows)
    inputs = {path: mx.concatenate(parts) for path, parts in samples.items() if parts}
    for shared in shared_inputs(model):
        if all(path in inputs for path in shared.layers):
            _scale(layers, shared, choices, inputs)
    for path, x in inputs.items():
        if path.endswith((".q", ".k")):
            continue  # scores are the products of two: a clipped one shifts them all
        how, layer = choices[path], layers[path]
        layer["weight"] = best_clip(matrix(layer), x, _rounding(how), how.group_size)
        mx.eval(layer["weight"])
    say(f"AWQ: {len(inputs)} layers scaled and clipped")


def shared_inputs(model: nn.Module) -> Iterator[Shared]:
    """Yield the groups of layers whose input can be scaled without changing the model."""
    for path, block in sorted(model.named_modules()):
        if not isinstance(block, BlockModule) or block.arrangement != "sequential":
            continue
        mixer = f"{path}.mixer"
        if "mixer_residual" in block and all(name in block["mixer"] for name in "qkv"):
            norm = block["mixer_residual"].get("pre")
            if _foldable(norm) and not _reads_more(block["mixer"]):
                yield Shared(tuple(f"{mixer}.{name}" for name in "qkv"), norm=norm)
        if "ffn" not in block or type(block["ffn"]) is not GluFfn:
            continue
        norm = block["ffn_residual"].get("pre")
        if _foldable(norm):
            yield Shared((f"{path}.ffn.gate", f"{path}.ffn.up"), norm=norm)
        yield Shared((f"{path}.ffn.down",), before=f"{path}.ffn.up")


def _reads_more(mixer: nn.Module) -> bool:
    """Whether a mixer applies other linear layers than q, k and v to its input."""
    return any(type(child) is nn.Linear for name, child in mixer.items() if name not in "qkvo")


def _foldable(norm: object) -> bool:
    return isinstance(norm, ScaledNorm) and "weight" in norm


def _scale(
    layers: Mapping[str, nn.Module],
    shared: Shared,
    choices: Mapping[str, Packing],
    inputs: dict[str, mx.array],
) -> None:
    """Choose the scales of one input by the error of the rounded layers, and fold them."""
    x = inputs[shared.layers[0]]
    weights = {path: matrix(layers[path]) for path in shared.layers}
    best, lowest = None, float("inf")
    for scales in input_scales(mx.abs(x).mean(axis=0)):
        error = mx.zeros(())
        for path, weight in weights.items():
            delta = _rounding(choices[path])(weight * scales) / scales - weight
            error = error + ((x @ delta.T) ** 2).sum()
        if (total_error := float(np.array(error))) < lowest:
            best, lowest = scales, total_error
    if best is None:
        return
    for path, weight in weights.items():
        layers[path]["weight"] = weight * best
        inputs[path] = inputs[path] / best
    if shared.before is not None:
        before = layers[shared.before]
        before["weight"] = matrix(before) / best[:, None]
        if "bias" in before:
            before["bias"] = before["bias"] / best
    norm = shared.norm
    if isinstance(norm, ScaledNorm):
        gain = norm["weight"] + 1 if norm.unit_offset else norm["weight"]
        norm["weight"] = gain / best - (1 if norm.unit_offset else 0)
        if "bias" in norm:
            norm["bias"] = norm["bias"] / best
    mx.eval([layers[path]["weight"] for path in shared.layers])


def _rounding(how: Packing) -> ROUND:
    return lambda weight: rounded(weight, how)
