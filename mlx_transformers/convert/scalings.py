"""Scalings of rotary positions as `rope_parameters` spells them, and as our tables do."""

import math
from collections.abc import Callable

from ..core.errors import ConvertError, unknown
from ..layers.positions.scalings.scaling import log_size
from .config import HfConfig

Table = dict[str, object]


def scaling_table(told: HfConfig, context: int, trained: int | None) -> Table | None:
    """Our table of the scaling that a rope table tells; None for none.

    Args:
        told: the rope table.
        context: the model's own `max_position_embeddings`.
        trained: `original_max_position_embeddings` of the config, which wins over the table's.

    Raises:
        ConvertError: a scaling that isn't built.
    """
    kind = told.get("rope_type", None) or told.get("type", "default")
    # some files keep these for scalings that don't ask for them
    told.ignore("type", "finetuned", "original_max_position_embeddings")
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise ConvertError(f"{told.where}: {unknown('rope_type', str(kind), SCALINGS)}")
    trained = trained or told.get("original_max_position_embeddings", None) or context
    return {"kind": NAMES.get(kind, kind), **SCALINGS[kind](told, context, trained)}


def scaling_config(table: Table) -> Table:
    """The keys of a scaling as `rope_parameters` spells them: the inverse of `scaling_table`.

    What they have no key for follows from the family, and `match` compares it.
    """
    spelt = SPELLINGS[str(table["kind"])]
    found = {spelt[key]: v for key, v in table.items() if v is not None and key in spelt}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}


def linear(told: HfConfig, context: int, trained: int) -> Table:
    return {"factor": float(told.get("factor"))}


def dynamic(told: HfConfig, context: int, trained: int) -> Table:
    # the length from which the base grows is the config's own, whatever training had
    return {"factor": float(told.get("factor")), "trained_len": context}


def llama3(told: HfConfig, context: int, trained: int) -> Table:
    return {
        "factor": float(told.get("factor")),
        "trained_len": trained,
        "low": float(told.get("low_freq_factor")),
        "high": float(told.get("high_freq_factor")),
    }


def yarn(told: HfConfig, context: int, trained: int) -> Table:
    factor = float(told.get("factor", None) or context / trained)
    table: Table = {
        "factor": factor,
        "trained_len": trained,
        "beta_fast": float(told.get("beta_fast", None) or 32),
        "beta_slow": float(told.get("beta_slow", None) or 1),
    }
    if not told.get("truncate", True):
        table["truncate"] = False
    magnitude = told.get("attention_factor", None)
    slope, slope_all = told.get("mscale", None), told.get("mscale_all_dim", None)
    if magnitude is None and slope and slope_all:
        magnitude = log_size(factor, slope) / log_size(factor, slope_all)
    if magnitude is not None:
        table["magnitude"] = float(magnitude)
    return table


def longrope(told: HfConfig, context: int, trained: int) -> Table:
    factor = told.get("factor", None) or context / trained
    magnitude = told.get("attention_factor", None)
    if magnitude is None:
        magnitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    return {
        "trained_len": trained,
        "short": [float(x) for x in told.get("short_factor")],
        "long": [float(x) for x in told.get("long_factor")],
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
