"""Layers that differ: `blocks` and `pattern` of a table, from one name per layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .config import HfConfig
from .flat_model import FlatModel


def patterned(table: Table, names: Sequence[str], variants: Mapping[str, Table]) -> Table:
    """Return a model table whose layer i is its block with the diff `variants[names[i]]`.

    Where all layers are alike there is one block; else the pattern is as short as it can be.
    """
    if len(set(names)) == 1:
        return {**table, "block": over(table["block"], variants[names[0]])}
    blocks = {name: variants[name] for name in dict.fromkeys(names)}
    return {**table, "blocks": blocks, "pattern": list(names[: period(names)])}


def period(names: Sequence[str]) -> int:
    """Return after how many layers the names repeat, the least such number."""
    count = len(names)
    return next(
        n for n in range(1, count + 1) if all(names[i] == names[i % n] for i in range(n, count))
    )


def over(table: Table, diff: Table) -> Table:
    """Return a table with a diff applied as recipes do: another kind replaces the whole."""
    out = dict(table)
    for key, value in diff.items():
        old = out.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            same = value.get("kind", old.get("kind")) == old.get("kind")
            value = over(old, value) if same else value
        out[key] = value
    return out


def layer_types(config: HfConfig, default: Callable[[int], str]) -> list[str]:
    """Return `full_attention` or `sliding_attention` for each layer of a config.

    Args:
        config: asked for `num_hidden_layers` too.
        default: the type of layer i where the config doesn't say.

    Raises:
        ConvertError: another type, or another count than there are layers.
    """
    count = config.get("num_hidden_layers")
    types = config.optional("layer_types") or [default(i) for i in range(count)]
    if len(types) < count:
        raise ConvertError(f"{config.where}: layer_types has {len(types)} of {count} layers.")
    known = {FULL, SLIDING}
    if foreign := [name for name in types if name not in known]:
        raise ConvertError(
            f"{config.where}: layer_types holds {foreign[0]!r}, which is not built for "
            f"{config.model_type}; {FULL!r} and {SLIDING!r} are."
        )
    return list(types[:count])


FULL = "full_attention"
SLIDING = "sliding_attention"


def windowed(table: Table, types: Sequence[str], window: int | None) -> Table:
    """Return a model table whose sliding layers have a window."""
    sliding: Table = {"mixer": {"window": window}} if window else {}
    return patterned(table, types, {FULL: {}, SLIDING: sliding})


def layer_types_of(view: FlatModel) -> list[str]:
    """Return the attention type of each layer of a model: the inverse of `layer_types`."""
    return [SLIDING if layer["mixer"].get("window") else FULL for layer in view.layers]


def window_of(view: FlatModel) -> Any:
    """Return the window of sliding layers, or the context where no layer has one: their code asks
    for a number in either case."""
    window = view.get("block.mixer.window")
    return view.get("max_seq_len") if window is None else window
