"""A model's table as writers of configs read it: every layer spelt out, nothing left to derive."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..core.errors import ConvertError
from .config import their_activation

Table = dict[str, Any]
MISSING: Any = object()
"""What a path gives that a model lacks."""
UNEMBEDDED = ("rope", "none")
"""Positions that a stack only lends to its layers; others have a table of their own, or add one."""


def plain(table: Mapping[str, Any], dim: int | None = None) -> Table:
    """A settled table with `layers` in place of block, blocks and pattern, and with the numbers
    that follow from others filled in, so that two tables of one model are equal."""
    dim = table.get("dim", dim)
    out = {key: _plain(value, dim) for key, value in table.items()}
    if "kind" in out:
        derive(out, dim)
    if "block" in out and "n_layers" in out:
        spread(out)
    return out


def derive(part: Table, dim: int | None) -> None:
    """Fill in what a mixer or an embedding leaves to be derived."""
    if part["kind"] in ("attention", "cross_attention") and dim is not None:
        part["n_kv_heads"] = part.get("n_kv_heads") or part["n_heads"]
        part["head_dim"] = part.get("head_dim") or dim // part["n_heads"]
        part["scale"] = part.get("scale") or part["head_dim"] ** -0.5
    if part["kind"] == "latent":
        width = part["nope_dim"] + part["rope_dim"]
        part["scale"] = part.get("scale") or width**-0.5
    if part["kind"] == "mlm" and part.get("width") == dim:
        part["width"] = None
    if part["kind"] == "token" and part.get("scale") == "one":
        part["scale"] = 1.0


def spread(tower: Table) -> None:
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


class View:
    """A model as paths read it: "head.tied", "block.mixer.n_heads", "encoder.block.ffn.kind".

    The block of a path is the first layer that has something there.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = plain(table)

    @property
    def layers(self) -> list[Table]:
        """Every layer of a model with one stack.

        Raises:
            ConvertError: it has several stacks, or none.
        """
        found: list[Table] | None = self.table.get("layers")
        if found is None:
            raise ConvertError("This model has not one stack of layers.")
        return found

    def get(self, path: str) -> Any:
        """What is at a path; None where it is told to be none, `MISSING` where it is absent."""
        found = list(_walk(self.table, path.split(".")))
        return next((value for value in found if value is not None), None if found else MISSING)

    def has(self, path: str) -> bool:
        """Whether there is something at a path."""
        return self.get(path) not in (None, MISSING)

    def number(self, path: str) -> float:
        """The number at a path.

        Raises:
            ConvertError: there is none.
        """
        value = self.get(path)
        if not isinstance(value, int | float):
            raise ConvertError(f"There is no number at {path}.")
        return value


Told = str | Callable[[View], Any]
"""A path, or what is made of a view."""


def spelled(
    keys: Mapping[str, Told], *more: Callable[[View], Table], **fixed: Any
) -> Callable[[Table], Table]:
    """The `config` of a family: the inverse of its `model`, as a table.

    Args:
        keys: their key, and where our value of it stands. What a model lacks is left out.
        more: what says several keys at once.
        fixed: keys with one value in all models that are built here.
    """

    def config(table: Table) -> Table:
        view = View(table)
        said = {
            key: view.get(told) if isinstance(told, str) else told(view)
            for key, told in keys.items()
        }
        for several in more:
            said |= several(view)
        return {**_given(said), **fixed}

    return config


def first_of(view: View, *paths: str) -> Any:
    """What is at the first of these paths that exists."""
    return next((view.get(path) for path in paths if view.has(path)), MISSING)


def activation(*paths: str) -> Told:
    """Their name of the activation at the first of these paths that exists."""

    def said(view: View) -> Any:
        found = first_of(view, *paths)
        return found if found is MISSING else their_activation(found)

    return said


def given(path: str) -> Told:
    """Whether there is something at a path."""
    return lambda view: view.has(path)


def is_(path: str, value: Any) -> Told:
    """Whether this value is at a path."""
    return lambda view: view.get(path) == value


def biased(view: View) -> bool:
    """Whether any map of attention has a bias."""
    return any(layer["mixer"].get(key) for layer in view.layers for key in ("bias", "out_bias"))


def _given(said: Table) -> Table:
    """What a model has of a config, and of the tables in it."""
    return {
        key: _given(value) if isinstance(value, dict) else value
        for key, value in said.items()
        if value is not MISSING
    }


def _plain(value: Any, dim: int | None) -> Any:
    if isinstance(value, Mapping):
        return plain(value, dim)
    return [_plain(item, dim) for item in value] if isinstance(value, list | tuple) else value


def _walk(node: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield node
    elif isinstance(node, Mapping) and path[0] == "block":
        for layer in node.get("layers", ()):
            yield from _walk(layer, path[1:])
    elif isinstance(node, Mapping) and path[0] in node:
        yield from _walk(node[path[0]], path[1:])
