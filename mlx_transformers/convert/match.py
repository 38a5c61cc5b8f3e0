"""Which published family can say a model: the one whose config gives its table back, whole."""

from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import ConvertError, MlxtError
from .config import HfConfig
from .family import Family, Table
from .known import FAMILIES, family_of

TRAINING = frozenset({"init", "dropout", "balance_loss", "z_loss"})
"""Keys that bear on training alone; a family's config needn't be able to say them."""

BIASES = frozenset({"bias", "out_bias"})
"""Keys that say whether there is a bias: a bias of zeros is none, so a family may have more."""

Settle = Callable[[Table], Table]
"""Fills in every default of a `[model]` table."""


def match(table: Table, settle: Settle, came_with: Table | None = None) -> tuple[Family, HfConfig]:
    """The family of a model, and its config.

    Args:
        table: the `[model]` table, settled.
        settle: see `Settle`.
        came_with: the config.json that the model was imported with, taken if it still says it.

    Raises:
        ConvertError: no family can say the model; names what the nearest one can't.
    """
    if came_with is not None:
        config = HfConfig(came_with)
        family = family_of(config)
        if not differences(table, settle(family.model(config))):
            return family, HfConfig(came_with)
    nearest: tuple[int, str, list[str]] | None = None
    for family in FAMILIES:
        said = say(family, table)
        if said is None:
            continue
        try:
            missing = differences(table, settle(family.model(HfConfig(said))))
        except MlxtError:  # it says what its own reader refuses
            continue
        if not missing:
            return family, HfConfig(said)
        if nearest is None or len(missing) < nearest[0]:
            nearest = (len(missing), family.architecture, missing)
    hint = (
        f" {nearest[1]} comes nearest, but not in {'; '.join(nearest[2][:4])}." if nearest else ""
    )
    names = ", ".join(family.name for family in FAMILIES if family.config is not None)
    raise ConvertError(f"No published family is this model (tried: {names}).{hint}")


def say(family: Family, table: Table) -> Table | None:
    """A model as a config of this family, or None where its shape is another."""
    if family.config is None:
        return None
    try:
        said = family.config(table)
    except (KeyError, TypeError, ConvertError):
        return None
    return {"architectures": [family.architecture], "model_type": family.name, **said}


def differences(table: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Where `other` can't compute what `table` does, each as `path = one, not other`."""
    if not path:
        table, other = comparable(table), comparable(other)
    found: list[str] = []
    for key in [*table, *(key for key in other if key not in table)]:
        one, two = table.get(key), other.get(key)
        where = f"{path}.{key}" if path else key
        if key in TRAINING or one == two or (key in BIASES and not one):
            continue
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(one, two, where)
        else:
            found.append(f"{where} = {_short(one)}, not {_short(two)}")
    return found


def comparable(table: Mapping[str, Any]) -> Table:
    """A settled table with what attention leaves to be derived filled in."""
    dim = table.get("dim")

    def fill(node: Any) -> Any:
        if isinstance(node, Mapping):
            out = {key: fill(value) for key, value in node.items()}
            if out.get("kind") == "attention" and dim is not None:
                out["n_kv_heads"] = out.get("n_kv_heads") or out["n_heads"]
                out["head_dim"] = out.get("head_dim") or dim // out["n_heads"]
            return out
        return [fill(item) for item in node] if isinstance(node, list | tuple) else node

    return dict(fill(table))


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, Mapping) else f"kind {value.get('kind')!r}"
    return text if len(text) < 60 else f"{text[:57]}..."
