"""Scalings of rotary positions as `rope_parameters` spells them, and as our tables do."""

import math
from collections.abc import Callable
from typing import Any

from ..core.errors import ConvertError, unknown
from ..layers.positions.scalings.scaling import log_size
from .config import HfConfig

Table = dict[str, object]


def scaling_table(rope: HfConfig, context: int, trained: int | None) -> Table | None:
    """Return our table of the scaling of a rope table; None without one.

    Args:
        rope: the rope table.
        context: the model's own `max_position_embeddings`.
        trained: `original_max_position_embeddings` of the config, which wins over the table's.

    Raises:
        ConvertError: a scaling that isn't built, or lacks a key.
    """
    kind = rope_type(rope)
    # some files keep these for scalings that don't ask for them
    rope.ignore("type", "finetuned", "original_max_position_embeddings")
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise ConvertError(f"{rope.where}: {unknown('rope_type', str(kind), SCALINGS)}")
    trained = trained or rope.optional("original_max_position_embeddings") or context
    return {"kind": NAMES.get(kind, kind), **SCALINGS[kind](rope, context, trained)}


def scaling_config(table: Table) -> Table:
    """Return the keys of a scaling in `rope_parameters`: the inverse of `scaling_table`.

    What they have no key for follows from the family, and `match` compares it.
    """
    spelt = SPELLINGS[str(table["kind"])]
    options = {spelt[key]: v for key, v in table.items() if v is not None and key in spelt}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}


def rope_type(rope: HfConfig) -> str:
    """Return the kind of scaling of a rope table; older files call the key `type`."""
    return str(rope.optional("rope_type") or rope.optional("type") or "default")


def _needed(rope: HfConfig, key: str) -> Any:
    """Return the value of a key that this scaling can't do without.

    Raises:
        ConvertError: the table lacks it.
    """
    value = rope.optional(key)
    if value is None:
        raise ConvertError(
            f"{rope.where} lacks '{key}', which the scaling '{rope_type(rope)}' needs. Add it as "
            "the model was trained, or remove the scaling."
        )
    return value


def linear(rope: HfConfig, context: int, trained: int) -> Table:
    return {"factor": float(_needed(rope, "factor"))}


def dynamic(rope: HfConfig, context: int, trained: int) -> Table:
    # the length from which the base grows is the config's own, whatever training had
    return {"factor": float(_needed(rope, "factor")), "trained_len": context}


def llama3(rope: HfConfig, context: int, trained: int) -> Table:
    return {
        "factor": float(_needed(rope, "factor")),
        "trained_len": trained,
        "low": float(_needed(rope, "low_freq_factor")),
        "high": float(_needed(rope, "high_freq_factor")),
    }


def yarn(rope: HfConfig, context: int, trained: int) -> Table:
    # null stands for the ratio of the two lengths; a table without the key is incomplete
    ratio = context / trained if "factor" in rope.data else None
    factor = float(rope.optional("factor") or ratio or _needed(rope, "factor"))
    table: Table = {
        "factor": factor,
        "trained_len": trained,
        "beta_fast": float(rope.optional("beta_fast") or 32),
        "beta_slow": float(rope.optional("beta_slow") or 1),
    }
    if rope.optional("truncate") is False:
        table["truncate"] = False
    magnitude = rope.optional("attention_factor")
    slope, slope_all = rope.optional("mscale"), rope.optional("mscale_all_dim")
    if magnitude is None and slope and slope_all:
        magnitude = log_size(factor, slope) / log_size(factor, slope_all)
    if magnitude is not None:
        table["magnitude"] = float(magnitude)
    return table


def longrope(rope: HfConfig, context: int, trained: int) -> Table:
    factor = rope.optional("factor") or context / trained
    magnitude = rope.optional("attention_factor")
    if magnitude is None:
        magnitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    return {
        "trained_len": trained,
        "short": [float(x) for x in _needed(rope, "short_factor")],
        "long": [float(x) for x in _needed(rope, "long_factor")],
        "magnitude": float(magnitude),
        "reread": False,
    }


SCALINGS: dict[str, Callable[[HfConfig, int, int], Table]] = {
    "linear": linear,
    "dynamic": dynamic,
    "llama3": llama3,
    "yarn": yarn,
    "longrope": longrope,
    "su": longrope,
}
"""By `rope_type`: what our table of it holds beside its kind."""

NAMES = {"su": "longrope"}
"""Older names of a scaling."""

TRAINED = {"kind": "rope_type", "factor": "factor"}
SPELLINGS: dict[str, dict[str, str]] = {
    "linear": TRAINED,
    "dynamic": TRAINED | {"trained_len": "original_max_position_embeddings"},
    "llama3": TRAINED
    | {
        "trained_len": "original_max_position_embeddings",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
    },
    "yarn": TRAINED
    | {
        "trained_len": "original_max_position_embeddings",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "truncate": "truncate",
        "magnitude": "attention_factor",
    },
    "longrope": TRAINED
    | {
        "trained_len": "original_max_position_embeddings",
        "short": "short_factor",
        "long": "long_factor",
        "magnitude": "attention_factor",
    },
}
"""By our kind: their key of each of ours."""
