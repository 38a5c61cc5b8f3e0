"""Rotary positions in both dialects of `config.json`.

transformers 5 has one table, `rope_parameters`, or one for each layer type; before, `rope_theta`
stood beside a table `rope_scaling`, and the share of turning features had a key of its own.
"""

from typing import Any

from ..core.errors import ConvertError
from .config import REQUIRED, HfConfig
from .scalings import scaling_config, scaling_table

Table = dict[str, Any]


def rope(
    config: HfConfig,
    *,
    theta: float = 10000.0,
    fraction: float | None = None,
    layer: str | None = None,
    context: int | None = None,
    theta_key: str = "rope_theta",
    fraction_key: str = "partial_rotary_factor",
) -> Table:
    """The position table of a rotary family.

    Args:
        config: the config, in either dialect.
        theta: the family's default base.
        fraction: the family's default share of features that turn; None for a family whose code
            turns all of them.
        layer: the layer type whose parameters are meant, where each type has its own.
        context: the family's default of `max_position_embeddings`, which scalings ask for.
        theta_key: the older dialect's name of the base.
        fraction_key: the older dialect's name of the share.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    told = rope_table(config, layer, theta_key, theta, fraction_key, fraction)
    return position(config, told, fraction, context)


def rope_of_layer(
    config: HfConfig, layer: str, *, theta: float, theta_key: str | None = "rope_theta"
) -> Table:
    """The position table of a layer type in a family where each has its own (Gemma 3, OLMo 3).

    In their older dialect, `rope_scaling` is that of the layers without a window.

    Args:
        config: the config, in either dialect.
        layer: the layer type.
        theta: its default base.
        theta_key: the older dialect's name of that base, if it has one.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    older = {"rope_theta": config.get(theta_key, theta) if theta_key else theta}
    scaling = config.get("rope_scaling", None) if layer == "full_attention" else None
    newer = (config.get("rope_parameters", None) or {}).get(layer)
    told = config.watched(
        f"rope_parameters of {layer}",
        {"partial_rotary_factor": 1.0, **older, **(newer or {}), **(scaling or {})},
    )
    return position(config, told, None, None)


def position(
    config: HfConfig, told: HfConfig, fraction: float | None, context: int | None
) -> Table:
    """The position table that a rope table tells; the arguments are those of `rope`."""
    table: Table = {"kind": "rope", "theta": float(told.get("rope_theta"))}
    if fraction is None:
        told.expect("partial_rotary_factor", 1.0)
    elif (share := told.get("partial_rotary_factor")) != 1.0:
        table["fraction"] = float(share)
    trained = config.get("original_max_position_embeddings", None)
    longest = REQUIRED if context is None else context
    limit = config.get("max_position_embeddings", longest) if scaled(told) else 0
    if scaling := scaling_table(told, limit, trained):
        table["scaling"] = scaling
    return table


def scaled(told: HfConfig) -> bool:
    """Whether a rope table asks for a scaling."""
    return (told.get("rope_type", None) or told.get("type", "default")) != "default"


def rope_table(
    config: HfConfig,
    layer: str | None,
    theta_key: str,
    theta: float,
    fraction_key: str,
    fraction: float | None,
) -> HfConfig:
    """The rope table of a config, or of one of its layer types, in the newer dialect."""
    share = config.get(fraction_key, 1.0 if fraction is None else fraction)
    older = {"rope_theta": config.get(theta_key, theta), "partial_rotary_factor": share}
    newer = config.get("rope_scaling", None) or config.get("rope_parameters", None) or {}
    config.ignore("rope_parameters", "rope_scaling")
    if any(isinstance(value, dict) for value in newer.values()):
        newer = newer.get(layer) or {}
    return config.watched("rope_parameters", {**older, **newer})


def rope_config(table: Table) -> Table:
    """The keys of a rotary position table, in both dialects at once: readers take either.

    Raises:
        ConvertError: neighbouring pairs, which the family's layout can't say.
    """
    if table["kind"] != "rope" or table.get("traditional"):
        raise ConvertError(f"position = {table} is not the rotary position of this family.")
    theta, share = float(table.get("theta", 10000.0)), table.get("fraction", 1.0)
    scaling = scaling_config(table["scaling"]) if table.get("scaling") else {}
    parameters: Table = {"rope_type": "default", "rope_theta": theta, **scaling}
    if share != 1.0:
        parameters["partial_rotary_factor"] = share
    return {"rope_theta": theta, "rope_parameters": parameters}
