"""Rows of a report on the energy of a run, its money and its CO2."""

from collections.abc import Mapping
from typing import Any

from ..core.errors import FormatError, RecipeError
from ..core.parse import parse_toml
from ..memory.chips import Mac, find_mac
from ..memory.cost import JOULES_PER_KWH, Cost
from ..memory.record import device_name
from .run import Run


def cost_rows(run: Run) -> dict[str, str]:
    """Return the row of a run's energy; empty where neither energy nor power is known.

    Energy that the processor counted is a measurement. Else it is an estimate: the time in steps,
    times a power.
    """
    cost = _factors(run.recipe)
    if joules := run.values("joules"):
        return {"energy of the processor, measured": cost.text(sum(joules) / JOULES_PER_KWH)}
    measured_here = run.environment.get("device_name") == device_name()
    power = cost.power(_mac(run.environment), measured_here)
    seconds = run.values("seconds_total")
    if power is None or not seconds:
        return {}
    text = cost.text(power.kwh(seconds[-1] / 3600))
    return {"energy, an estimate": f"{text} ({power.watts:,.0f} W: {power.source})"}


def _factors(recipe: str) -> Cost:
    """Return the table `[cost]` of a recipe; its defaults if it can't be read."""
    try:
        return Cost.model_validate(parse_toml(recipe, "recipe.toml").get("cost", {}))
    except (FormatError, ValueError):  # of TOML and of a typed table, too
        return Cost()


def _mac(environment: Mapping[str, Any]) -> Mac | None:
    """Return the Mac that a run was trained on, if its chip is known."""
    if not environment.get("metal"):
        return None
    try:
        return Mac(find_mac(str(environment["device_name"])).chip, round(environment["memory_gib"]))
    except (RecipeError, KeyError, TypeError):
        return None
