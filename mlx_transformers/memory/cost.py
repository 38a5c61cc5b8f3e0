"""Energy of a run, and what it costs by the user's own factors.

kWh = watts · hours / 1000        money = kWh · price_per_kwh        CO2 = kWh · co2_g_per_kwh
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import Field

from ..core.cache import cache_folder
from ..core.parse import read_table
from ..data.cache import keep_json
from ..recipe.config import Config
from .chips import Mac
from .record import device_name

JOULES_PER_KWH = 3.6e6


class Cost(Config):
    """The table `[cost]`: power of the machine, and what a kilowatt-hour costs and emits."""

    watts: float | None = Field(None, gt=0)
    """Power of the machine while it trains. None: as it was measured here, else an assumption for
    the Mac's chip."""
    price_per_kwh: float | None = Field(None, ge=0)
    """Price of a kilowatt-hour; none counts no money."""
    currency: str = Field("EUR", min_length=1)
    """Currency of the price."""
    co2_g_per_kwh: float | None = Field(None, ge=0)
    """Grams of CO2 that a kilowatt-hour emits; none counts no CO2."""

    def text(self, *kwh: float) -> str:
        """Format an amount of energy, or the least and the most, with its money and CO2."""
        amounts = [amount(kwh, "kWh")]
        if self.price_per_kwh is not None:
            amounts.append(amount([n * self.price_per_kwh for n in kwh], self.currency))
        if self.co2_g_per_kwh is not None:
            grams = [n * self.co2_g_per_kwh for n in kwh]
            heavy = max(grams) >= 1000
            scaled = [n / 1000 for n in grams] if heavy else grams
            amounts.append(f"{amount(scaled, 'kg' if heavy else 'g')} of CO2")
        return ", ".join(amounts)

    def power(self, mac: Mac | None, here: bool = True) -> "Power | None":
        """Return the power of a machine; None if it is unknown.

        Args:
            mac: the Mac, if it is one whose chip is known.
            here: whether it is this machine, where power may have been measured.
        """
        if self.watts is not None:
            return Power(self.watts, "cost.watts")
        if here and (watts := measured_watts()):
            return Power(watts, "measured here by mlxt profile: processor alone")
        if mac is None:
            return None
        return Power(mac.chip.watts, f"assumed for an {mac.chip.name}")

    def bill(self, mac: Mac | None, here: bool, hours: Sequence[float]) -> "Bill | None":
        """Return the bill for a range of hours; the other arguments and None as in `power`."""
        power = self.power(mac, here)
        if power is None:
            return None
        kwh = [power.kwh(n) for n in hours]
        return Bill(power, (min(kwh), max(kwh)), self.text(min(kwh), max(kwh)))


@dataclass(frozen=True)
class Power:
    """Power of a machine while it trains, and where the number comes from."""

    watts: float
    source: str

    def kwh(self, hours: float) -> float:
        """Return the energy of so many hours."""
        return self.watts * hours / 1000


@dataclass(frozen=True)
class Bill:
    """Estimated energy of a run, from least to most, and a text of it with money and CO2."""

    power: Power
    kwh: tuple[float, float]
    text: str


LEAST = 1e-6
"""Smaller amounts, such as those of a plan for a few steps, are not spelt out."""


def amount(values: Sequence[float], unit: str) -> str:
    """Format a value, or the least and the most: "0.0123 kWh", "1.2 to 4 EUR"."""
    texts = [f"{value:,.0f}" if value >= 1000 else _digits(value) for value in values]
    return f"{' to '.join(dict.fromkeys(texts))} {unit}"


def _digits(value: float) -> str:
    """Format three digits without an exponent."""
    if 0 < value < LEAST:
        return f"under {LEAST:f}"
    return format(Decimal(f"{value:.3g}"), "f")


def measured_watts() -> float | None:
    """Return the power that was last measured on this device; None if it never was."""
    try:
        watts = float(read_table(_file())[device_name()])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return watts if watts > 0 else None


def record_watts(watts: float) -> None:
    """Keep a measured power of this device for later plans, if the cache can be written."""
    try:
        saved = read_table(_file())
    except (OSError, ValueError):
        saved = {}
    keep_json(_file(), saved | {device_name(): round(watts, 2)})


def _file() -> Path:
    return cache_folder() / "power.json"
