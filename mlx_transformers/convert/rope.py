"""Rotary positions in both dialects of `config.json`.

transformers 5 has one table, `rope_parameters`, or one for each layer type; before, `rope_theta`
stood beside a table `rope_scaling`, and the share of turning features had a key of its own.
"""

from typing import Any

from ..core.errors import ConvertError, unknown
from .config import HfConfig

Table = dict[str, Any]


def rope(
    config: HfConfig,
    *,
    theta: float = 10000.0,
    fraction: float = 1.0,
    layer: str | None = None,
    theta_key: str = "rope_theta",
    fraction_key: str = "partial_rotary_factor",
) -> Table:
    """The position table of a rotary family.

    Args:
        config: the config, in either dialect.
        theta: the family's default base.
        fraction: the family's default share of features that turn.
        layer: the layer type whose parameters are meant, where each type has its own.
        theta_key: the older dialect's name of the base.
        fraction_key: the older dialect's name of the share.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    older = {
        "rope_theta": config.get(theta_key, theta),
        "partial_rotary_factor": config.get(fraction_key, fraction),
    }
    newer = config.get("rope_parameters", None) or config.get("rope_scaling", None) or {}
    config.ignore("rope_parameters", "rope_scaling")
    if any(isinstance(value, dict) for value in newer.values()):
        newer = newer.get(layer, {})
    told = config.watched("rope_parameters", {**older, **newer})
    table: Table = {"kind": "rope", "theta": float(told.get("rope_theta"))}
    if (share := told.get("partial_rotary_factor")) != 1.0:
        table["fraction"] = share
    kind = told.get("rope_type", None) or told.get("type", "default")
    told.ignore("type")
    if kind not in SCALINGS:
        raise ConvertError(f"{told.where}: {unknown('rope_type', str(kind), SCALINGS)}")
    if scaling := SCALINGS[kind](config, told):
        table["scaling"] = scaling
    return table


def default(config: HfConfig, told: HfConfig) -> Table:
    """No scaling."""
    return {}


SCALINGS = {"default": default}
"""By `rope_type`: `(config, its rope table) -> our table of a scaling`."""


def rope_config(table: Table) -> Table:
    """The keys of a rotary position table, in both dialects at once: readers take either.

    Raises:
        ConvertError: neighbouring pairs, which the family's layout can't say.
    """
    if table["kind"] != "rope" or table.get("traditional"):
        raise ConvertError(f"position = {table} is not the rotary position of this family.")
    theta, share = float(table.get("theta", 10000.0)), table.get("fraction", 1.0)
    parameters: Table = {"rope_type": "default", "rope_theta": theta}
    if share != 1.0:
        parameters["partial_rotary_factor"] = share
    return {"rope_theta": theta, "rope_parameters": parameters}
