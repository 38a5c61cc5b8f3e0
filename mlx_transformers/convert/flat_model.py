"""A model's table with every layer written out and derived numbers filled in.

Writers of configs read it by paths, and two tables of one model are equal in this form.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .config import their_activation

MISSING: Any = object()
"""The value of a path that a model lacks."""
OF_HEADS = ("attention", "cross_attention", "longformer", "big_bird", "transient_global")
"""Mixer kinds whose widths follow from the number of heads."""
UNEMBEDDED = ("rope", "none")
"""Position kinds without parameters of their own."""


def flatten(table: Mapping[str, Any], dim: int | None = None) -> Table:
    """Return a resolved table with `layers` in place of block, blocks and pattern, and with the
    numbers filled in that follow from others."""
    dim = table.get("dim", dim)
    out = {key: _plain(value, dim) for key, value in table.items()}
    if "kind" in out:
        derive(out, dim)
    if "block" in out and "n_layers" in out:
        write_out_layers(out)
    return out


def derive(part: Table, dim: int | None) -> None:
    """Fill in what a mixer or an embedding leaves to be derived."""
    if part["kind"] in OF_HEADS and dim is not None:
        part["n_kv_heads"] = part.get("n_kv_heads") or part["n_heads"]
        part["head_dim"] = part.get("head_dim") or dim // part["n_heads"]
        part["scale"] = part.get("scale") or part["head_dim"] ** -0.5
    if part["kind"] == "latent":
        width = part["nope_dim"] + part["rope_dim"]
        part["scale"] = part.get("scale") or width**-0.5
    if part["kind"] in ("mamba", "mamba2") and dim is not None:
        part["inner_dim"] = part.get("inner_dim") or 2 * dim
    if part["kind"] in ("rwkv4", "rg_lru") and dim is not None:
        part["hidden_dim"] = part.get("hidden_dim") or dim
    if part["kind"] == "mlstm" and dim is not None:
        part["key_dim"] = part.get("key_dim") or dim // 2
        part["value_dim"] = part.get("value_dim") or dim
    if part["kind"] == "mamba" and dim is not None:
        part["dt_rank"] = part.get("dt_rank") or -(-dim // 16)
    if part["kind"] in ("deltanet", "gated_deltanet"):
        part["n_value_heads"] = part.get("n_value_heads") or part["n_heads"]
        part["key_dim"] = part.get("key_dim") or dim
        part["value_dim"] = part.get("value_dim") or dim
    if part["kind"] == "mlm" and part.get("width") == dim:
        part["width"] = None
    if part["kind"] == "token" and part.get("scale") == "one":
        part["scale"] = 1.0


def write_out_layers(tower: Table) -> None:
    """Write out the layers of a tower, each with its positions and its second norm."""
    block, blocks = tower.pop("block"), tower.pop("blocks", None) or {}
    names, position = tower.pop("pattern", None), tower["position"]
    layers = [
        dict(blocks[names[i % len(names)]] if names else block) for i in range(tower["n_layers"])
    ]
    for layer in layers:
        layer["position"] = layer.get("position") or position
        if layer["arrangement"] != "parallel":
            layer["ffn_norm"] = layer.get("ffn_norm") or layer["norm"]
    tower["layers"] = layers
    if position["kind"] in UNEMBEDDED:
        del tower["position"]


class FlatModel:
    """A model read by paths: "head.tied", "block.mixer.n_heads", "encoder.block.ffn.kind".

    `block` stands for the first layer that has the path.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = flatten(table)

    @property
    def layers(self) -> list[Table]:
        """Every layer of a model with one stack.

        Raises:
            ConvertError: it has several stacks, or none.
        """
        layers: list[Table] | None = self.table.get("layers")
        if layers is None:
            raise ConvertError("This model has not one stack of layers.")
        return layers

    def get(self, path: str) -> Any:
        """Return the value at a path; `MISSING` if there is no such path."""
        values = list(_walk(self.table, path.split(".")))
        return next((value for value in values if value is not None), None if values else MISSING)

    def has(self, path: str) -> bool:
        """Whether there is something at a path."""
        return self.get(path) not in (None, MISSING)

    def number(self, path: str) -> float:
        """Return the number at a path.

        Raises:
            ConvertError: there is none.
        """
        value = self.get(path)
        if not isinstance(value, int | float):
            raise ConvertError(f"There is no number at {path}.")
        return value


PathOrFn = str | Callable[[FlatModel], Any]
"""A path, or a function of a flat model."""

SIZES: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "max_position_embeddings": "max_seq_len",
    "initializer_range": "init.std",
}
"""Recipe paths of the keys by which most configs give a model's sizes and its weights' start."""


def config_writer(
    keys: Mapping[str, PathOrFn], *more: Callable[[FlatModel], Table], **fixed: object
) -> Callable[[Table], Table]:
    """Return the `config` of a family: the inverse of its `model`.

    Args:
        keys: the config's key, and the path of our value. Keys that a model lacks are left out.
        more: functions that return several keys.
        fixed: keys with the same value in all models that are built here.
    """

    def config(table: Table) -> Table:
        view = FlatModel(table)
        values = {
            key: view.get(source) if isinstance(source, str) else source(view)
            for key, source in keys.items()
        }
        for several in more:
            values |= several(view)
        return {**_without_missing(values), **fixed}

    return config


def first_of(view: FlatModel, *paths: str) -> Any:
    """Return the value at the first of these paths that exists."""
    return next((view.get(path) for path in paths if view.has(path)), MISSING)


def activation(*paths: str) -> PathOrFn:
    """Return a reader of the reference name of the activation at the first path that exists."""

    def read(view: FlatModel) -> Any:
        ours = first_of(view, *paths)
        return ours if ours is MISSING else their_activation(ours)

    return read


def present(path: str) -> PathOrFn:
    """Whether there is something at a path."""
    return lambda view: view.has(path)


def is_(path: str, value: object) -> PathOrFn:
    """Whether this value is at a path."""
    return lambda view: view.get(path) == value


def biased(view: FlatModel) -> bool:
    """Whether any linear layer of attention has a bias."""
    return any(layer["mixer"].get(key) for layer in view.layers for key in ("bias", "out_bias"))


def _without_missing(values: Table) -> Table:
    """Return a config without the keys that the model lacks, in inner tables too."""
    return {
        key: _without_missing(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not MISSING
    }


def _plain(value: object, dim: int | None) -> Any:
    if isinstance(value, Mapping):
        return flatten(value, dim)
    return [_plain(item, dim) for item in value] if isinstance(value, list | tuple) else value


def _walk(node: object, path: list[str]) -> Iterator[Any]:
    if not path:
        yield node
    elif isinstance(node, Mapping) and path[0] == "block":
        for layer in node.get("layers", ()):
            yield from _walk(layer, path[1:])
    elif isinstance(node, Mapping) and path[0] in node:
        yield from _walk(node[path[0]], path[1:])
