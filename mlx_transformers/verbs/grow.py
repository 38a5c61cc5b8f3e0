"""Makes a deeper or wider model from a smaller run: `mlxt grow`.

Depth: layers are copied, as a stack of stacks (`stack`: Gong et al. 2019) or each beside its source
(`interpolate`: Chang et al. 2018); with `identity` the copies add nothing yet, since the matrices
that write to the residual stream are zero (LLaMA Pro: Wu et al. 2024). Width: hidden features of
ffns are copied and their outputs shared (Net2Net: Chen et al. 2016). `identity` and width keep the
function, and are compared with the source before anything is written.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.model import build_model
from ..compress.fidelity import LOSSY, Fidelity
from ..core.errors import RecipeError, unknown
from ..core.messages import LogFn
from ..core.tree import Tree
from ..layers.ffns.expert import stackable
from ..layers.parameter import parameters_of
from ..models.decoder import Decoder
from ..models.model import Model
from ..ops.growth import widen_in, widen_out
from ..runs.folder import RUNS, RunFolder, check_new
from .derived_run import Origin, model_table, origin_of, write_run
from .gate import check_equal, gate
from .text_sample import sample_text

Method = Literal["identity", "stack", "interpolate"]
LAYER = re.compile(r"(^|\.)blocks\.(\d+)\.")
"""The number of a layer in a parameter's path."""
FFN_OUT = re.compile(r"\.ffn\.down\.weight(\.|$)")
FFN_IN = re.compile(r"\.ffn\.(up|gate)\.(weight|bias)(\.|$)")
"""Paths of the arrays whose inputs, or outputs, are the hidden features of an ffn."""


@dataclass(frozen=True)
class Growth:
    """The sizes of the grown model.

    Attributes:
        n_layers: layers; None keeps them.
        hidden_dim: width of the ffns; None keeps it.
        method: where the weights of new layers come from.
        seed: of the features that are copied.
        anyway: write a result that is far from its source.
    """

    n_layers: int | None = None
    hidden_dim: int | None = None
    method: str = "identity"
    seed: int = 0
    anyway: bool = False

    @property
    def exact(self) -> bool:
        """Whether the grown model computes what its source does."""
        return self.n_layers is None or self.method == "identity"


def grow(
    source: str,
    growth: Growth,
    *,
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
) -> tuple[RunFolder, Fidelity]:
    """Write a run that is deeper or wider than its source, with the source's weights.

    Args:
        source: a run or one of its checkpoints, or a published folder.
        growth: the new sizes.
        name: the new run's name; None takes the source's with "grown" behind it.
        root: the folder of runs.
        say: reports the result.

    Raises:
        MlxtError: the source can't be read, a size is smaller than its own, or the result is too
            far from its source. Nothing is written then.
    """
    check_new(name, root)
    with origin_of(source, root) as origin:
        small = origin.plain_model("grow")
        table = grown_table(origin, model_table(origin, small), growth)
        model = build_model(origin.recipe_with(table), origin.tokenizer, reads_text=False)
        weights = grown(small, model, growth)
        model.update(weights)
        text = sample_text(None, origin.recipe, origin.tokenizer, small.vocab_size)
        cure = "Take --method identity"
        difference = gate(small, model, text.held_out, LOSSY, cure, anyway=growth.anyway)
        if growth.exact:
            check_equal(difference)
        stem, about = f"{origin.folder.name}-grown", {"grown": origin.where}
        folder = write_run(origin, name, stem, {"model": table}, weights, about, root)
    say(difference.line())
    return folder, difference


def grown_table(origin: Origin, table: dict[str, Any], growth: Growth) -> dict[str, Any]:
    """Return the `[model]` table with the new sizes.

    Raises:
        RecipeError: the model can't grow, a size is smaller than its own, or nothing changes.
    """
    model = origin.recipe.model
    if not isinstance(model, Decoder) or model.blocks or model.block.ffn is None:
        raise RecipeError(
            f"{origin.where} can't grow: decoders whose layers are all of one [model.block] with "
            "an ffn can."
        )
    if growth.method not in get_args(Method):
        raise RecipeError(unknown("method", growth.method, get_args(Method)))
    ffn = dict(table["block"]["ffn"])
    if growth.hidden_dim is not None:
        stackable(model.block.ffn)
        _check_larger("--hidden-dim", growth.hidden_dim, ffn["hidden_dim"])
        ffn["hidden_dim"] = growth.hidden_dim
    n_layers = growth.n_layers or model.n_layers
    if growth.n_layers is not None:
        _check_larger("--layers", growth.n_layers, model.n_layers)
        if growth.method == "identity" and model.n_distinct is not None:
            raise RecipeError(
                "n_distinct repeats layers with the same weights, so that no layer adds nothing: "
                "take --method stack."
            )
        if growth.method == "identity" and model.block.placement != "pre":
            raise RecipeError(
                f"block.placement = '{model.block.placement}' norms the residual stream, so no "
                "layer adds nothing to it: take --method stack or interpolate."
            )
    if growth.n_layers is None and growth.hidden_dim is None:
        raise RecipeError("Nothing to grow: give --layers, --hidden-dim or both.")
    return {**table, "n_layers": n_layers, "block": {**table["block"], "ffn": ffn}}


def _check_larger(option: str, new: int, old: int) -> None:
    if new <= old:
        raise RecipeError(f"{option} {new} doesn't grow the model, which has {old}: take more.")


def grown(small: Model, large: Model, growth: Growth) -> Tree:
    """Return the parameters of the larger model, from those of the smaller one."""
    writes = {
        parameter.path.rpartition(".")[0]
        for parameter in parameters_of(large)
        if parameter.writes_residual
    }
    old, mapping = dict(tree_flatten(small.parameters())), Mapping(small, growth)
    arrays = []
    for path, new in tree_flatten(large.parameters()):
        value = mapping.value(path, old)
        if mapping.adds_nothing(path) and path.rpartition(".")[0] in writes:
            value = mx.zeros_like(value)
        assert value.shape == new.shape, path
        arrays.append((path, value))
    weights = tree_unflatten(arrays)
    mx.eval(weights)
    return weights


class Mapping:
    """Source of each array of a larger model, and of each of its gradient's moments.

    Args:
        small: the smaller model.
        growth: the new sizes.
    """

    def __init__(self, small: Model, growth: Growth) -> None:
        old = dict(tree_flatten(small.parameters()))
        layers = 1 + max(_layer(path) for path in old)
        self.growth = growth
        self.source = sources(layers, growth.n_layers or layers, growth.method)
        self.features = _features(old, growth)

    def adds_nothing(self, path: str) -> bool:
        """Return whether an array belongs to a copied layer whose outputs begin at zero."""
        at = _layer(path)
        return self.growth.method == "identity" and at >= 0 and self.source[at] in self.source[:at]

    def value(self, path: str, old: dict[str, mx.array], power: int = 0) -> mx.array:
        """Return the array of a path.

        Args:
            path: of the larger model's weight, or of a moment of its gradient.
            old: the arrays of the smaller model, or of its optimizer, by path.
            power: of the gradient in the array: 0 for weights, 1 for its mean, 2 for its square.
        """
        at = _layer(path)
        array = old[path] if at < 0 else old[LAYER.sub(rf"\1blocks.{self.source[at]}.", path)]
        if self.features is None:
            return array
        # A feature's outputs are shared among its copies, and so is the gradient of its inputs.
        if FFN_OUT.search(path):
            copied = widen_in if power == 0 else widen_out
            return copied(array, self.features, axis=-1)
        if FFN_IN.search(path):
            counts = (self.features[:, None] == self.features[None, :]).sum(axis=1)
            shape = [-1] + [1] * (array.ndim - 1)
            return widen_out(array, self.features) / (counts**power).reshape(shape)
        return array


def sources(layers: int, total: int, method: str) -> list[int]:
    """Return the layer of the smaller model that each of `total` layers copies."""
    return [j % layers if method == "stack" else j * layers // total for j in range(total)]


def _layer(path: str) -> int:
    match = LAYER.search(path)
    return -1 if match is None else int(match.group(2))


def _features(old: dict[str, mx.array], growth: Growth) -> mx.array | None:
    """The source of each hidden feature of a wider ffn; None keeps them."""
    if growth.hidden_dim is None:
        return None
    width = next(value.shape[0] for path, value in old.items() if path.endswith("ffn.up.weight"))
    drawn = np.random.default_rng(growth.seed).integers(0, width, growth.hidden_dim - width)
    return mx.array(np.concatenate([np.arange(width), drawn]))
