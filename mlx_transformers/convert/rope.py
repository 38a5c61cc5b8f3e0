"""Rotary positions in both dialects of `config.json`.

transformers 5 has one table, `rope_parameters`, or one for each layer type; before, `rope_theta`
stood beside a table `rope_scaling`, and the share of turning features had a key of its own.
"""

from collections.abc import Callable
from typing import Any

from ..core.errors import ConvertError
from .config import REQUIRED, HfConfig
from .pattern import FULL, SLIDING, attended
from .scalings import scaling_config, scaling_table
from .view import View

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


def rotary(
    *,
    theta_key: str = "rope_theta",
    fraction_key: str | None = None,
    traditional: bool = False,
) -> Callable[[View], Table]:
    """What says the rotary positions of a model, in both dialects at once: readers take either.

    Args:
        theta_key: the older dialect's name of the base.
        fraction_key: the older dialect's name of the share of features that turn; None for a
            family that turns all of them.
        traditional: whether the family's neighbours turn together.
    """

    def said(view: View) -> Table:
        turned = [layer["position"] for layer in view.layers if layer["position"]["kind"] == "rope"]
        if not turned or bool(turned[0].get("traditional")) != traditional:
            raise ConvertError("Its positions are not the rotary ones of this family.")
        share = {} if fraction_key is None else {fraction_key: turned[0].get("fraction", 1.0)}
        told = rope_parameters(turned[0])
        if fraction_key is not None:
            told["partial_rotary_factor"] = share[fraction_key]
        return {theta_key: told["rope_theta"], **share, "rope_parameters": told}

    return said


def rope_parameters(position: Table) -> Table:
    """A rotary position table as transformers 5 spells it."""
    scaling = scaling_config(position["scaling"]) if position.get("scaling") else {}
    parameters: Table = {
        "rope_type": "default",
        "rope_theta": float(position.get("theta", 10000.0)),
        **scaling,
    }
    if (share := position.get("fraction", 1.0)) != 1.0:
        parameters["partial_rotary_factor"] = share
    return parameters


def rotary_by_layer(*older: str) -> Callable[[View], Table]:
    """The same for a family whose layers with and without a window turn apart.

    Args:
        older: the older dialect's names of the two bases, that of layers without a window first.
    """

    def said(view: View) -> Table:
        told = {
            name: rope_parameters(layer["position"])
            for name, layer in zip(attended(view), view.layers, strict=True)
        }
        bases = zip(older, (FULL, SLIDING), strict=False)
        former = {key: told[name]["rope_theta"] for key, name in bases if name in told}
        return {**former, "rope_parameters": told}

    return said
