"""Rotary positions in both dialects of `config.json`.

transformers 5 has one table, `rope_parameters`, or one for each layer type. Older files have
`rope_theta` beside a table `rope_scaling`, and a key for the share of rotated features.
"""

from collections.abc import Callable

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .config import HfConfig
from .flat_model import FlatModel
from .layer_types import FULL, SLIDING, layer_types_of
from .scalings import rope_type, scaling_config, scaling_table


def rope(
    config: HfConfig,
    *,
    partial: bool = False,
    theta: float | None = None,
    layer: str | None = None,
    theta_key: str = "rope_theta",
    fraction_key: str = "partial_rotary_factor",
) -> Table:
    """Return the position table of a rotary family.

    Args:
        config: the config, in either dialect.
        partial: whether the family may rotate a share of the features only.
        theta: the base, in a family that keeps it in another table.
        layer: the layer type whose parameters to read, in a family where each type has its own.
        theta_key: the older dialect's name of the base.
        fraction_key: the older dialect's name of the share of rotated features.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    table = rope_table(config, layer, theta_key, fraction_key, theta)
    return position(config, table, partial)


def rope_of_layer(config: HfConfig, layer: str, *, theta_key: str = "rope_theta") -> Table:
    """Return the position table of a layer type in a family where each has its own (Gemma 3).

    In the older dialect, `rope_scaling` belongs to the layers without a window.

    Args:
        config: the config, in either dialect.
        layer: the layer type.
        theta_key: the older dialect's name of that type's base.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    older = {"rope_theta": config.get(theta_key)}
    scaling = config.optional("rope_scaling") if layer == FULL else None
    newer = (config.optional("rope_parameters") or {}).get(layer)
    table = config.watched(
        f"rope_parameters of {layer}",
        {"partial_rotary_factor": 1.0, **older, **(newer or {}), **(scaling or {})},
        "rope",
    )
    return position(config, table, partial=False)


def position(config: HfConfig, rope: HfConfig, partial: bool) -> Table:
    """Return the position table of a rope table; `partial` as in `rope`."""
    table: Table = {"kind": "rope", "theta": float(rope.get("rope_theta"))}
    if not partial:
        rope.expect("partial_rotary_factor", 1.0)
    elif (share := rope.get("partial_rotary_factor")) != 1.0:
        table["fraction"] = float(share)
    trained = config.optional("original_max_position_embeddings")
    limit = config.get("max_position_embeddings") if scaled(rope) else 0
    if scaling := scaling_table(rope, limit, trained):
        table["scaling"] = scaling
    return table


def scaled(rope: HfConfig) -> bool:
    """Whether a rope table has a scaling."""
    return rope_type(rope) != "default"


def rope_table(
    config: HfConfig,
    layer: str | None = None,
    theta_key: str = "rope_theta",
    fraction_key: str = "partial_rotary_factor",
    theta: float | None = None,
) -> HfConfig:
    """Return the rope table of a config, or of one of its layer types, in the newer dialect."""
    share = config.optional(fraction_key)
    older = {
        "rope_theta": config.get(theta_key) if theta is None else theta,
        "partial_rotary_factor": 1.0 if share is None else share,
    }
    name = "rope_scaling" if config.optional("rope_scaling") else "rope_parameters"
    newer = config.optional(name) or {}
    config.ignore("rope_parameters", "rope_scaling")
    if any(isinstance(value, dict) for value in newer.values()):
        newer = newer.get(layer) or {}
    return config.watched(name, {**older, **newer}, "rope")


def text_positions(config: HfConfig) -> None:
    """Drop the keys that divide features among time, height and width (M-RoPE) from `config`.

    A text has all three positions alike, so there they have no effect (Wang et al. 2024, Qwen2-VL,
    section 2.1).
    """
    keys = ("mrope_section", "mrope_interleaved")
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(table := config.data.get(name), dict):
            plain = {key: value for key, value in table.items() if key not in keys}
            if plain.get("type", plain.get("rope_type")) == "mrope":
                plain = {key: v for key, v in plain.items() if key not in ("type", "rope_type")}
            config.data[name] = plain or None


def rotary(
    *,
    theta_key: str = "rope_theta",
    fraction_key: str | None = None,
    traditional: bool = False,
) -> Callable[[FlatModel], Table]:
    """Return a writer of rotary positions in both dialects, of transformers 5 and before.

    Args:
        theta_key: the older dialect's name of the base.
        fraction_key: the older dialect's name of the share of rotated features; None for a
            family that rotates all of them.
        traditional: whether the family rotates pairs of adjacent features.
    """

    def write(view: FlatModel) -> Table:
        rotated = [
            layer["position"] for layer in view.layers if layer["position"]["kind"] == "rope"
        ]
        if not rotated or bool(rotated[0].get("traditional")) != traditional:
            raise ConvertError("Its positions are not the rotary ones of this family.")
        share = {} if fraction_key is None else {fraction_key: rotated[0].get("fraction", 1.0)}
        parameters = rope_parameters(rotated[0])
        if fraction_key is not None:
            parameters["partial_rotary_factor"] = share[fraction_key]
        return {theta_key: parameters["rope_theta"], **share, "rope_parameters": parameters}

    return write


def rope_parameters(position: Table) -> Table:
    """Return a rotary position table in the spelling of transformers 5."""
    scaling = scaling_config(position["scaling"]) if position.get("scaling") else {}
    parameters: Table = {
        "rope_type": "default",
        "rope_theta": float(position.get("theta", 10000.0)),
        **scaling,
    }
    if (share := position.get("fraction", 1.0)) != 1.0:
        parameters["partial_rotary_factor"] = share
    return parameters


def rotary_by_layer(*older: str) -> Callable[[FlatModel], Table]:
    """Return a writer of rotary positions of a family whose layer types have their own.

    Args:
        older: the older dialect's names of the two bases, that of layers without a window first.
    """

    def write(view: FlatModel) -> Table:
        by_type = {
            name: rope_parameters(layer["position"])
            for name, layer in zip(layer_types_of(view), view.layers, strict=True)
        }
        bases = zip(older, (FULL, SLIDING), strict=False)
        former = {key: by_type[name]["rope_theta"] for key, name in bases if name in by_type}
        return {**former, "rope_parameters": by_type}

    return write
