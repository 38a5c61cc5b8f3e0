"""Energy, money and CO2: counted from a meter, a given power, or an assumption that says so."""

from pathlib import Path

import pytest

from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.plan import plan
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.power import EnergyCounter
from mlx_transformers.memory.chips import find_mac
from mlx_transformers.memory.cost import Cost, measured_watts, record_watts

FACTORS = {"price_per_kwh": 0.3, "currency": "EUR", "co2_g_per_kwh": 400.0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache in which nothing was measured yet."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))


def test_energy_money_and_co2_by_the_factors() -> None:
    assert Cost().text(0.01234) == "0.0123 kWh"
    assert Cost().text(1.7e-14, 0.5) == "under 0.000001 to 0.5 kWh"
    assert Cost(**FACTORS).text(2.0, 10.0) == "2 to 10 kWh, 0.6 to 3 EUR, 0.8 to 4 kg of CO2"
    assert Cost(**FACTORS).text(0.5) == "0.5 kWh, 0.15 EUR, 200 g of CO2"


def test_power_is_given_else_measured_else_assumed() -> None:
    mac = find_mac("M3 Max 64GB")
    assumed = Cost().power(mac)
    assert assumed is not None
    assert (assumed.watts, assumed.source) == (10 + 1.5 * 40, "assumed for an M3 Max")
    assert Cost().power(None) is None
    record_watts(31.25)
    assert measured_watts() == 31.25
    measured, elsewhere = Cost().power(mac), Cost().power(mac, here=False)
    assert measured is not None
    assert measured.watts == 31.25
    assert "measured" in measured.source
    assert elsewhere == assumed
    given = Cost(watts=40.0).power(mac)
    assert given is not None
    assert (given.watts, given.source) == (40.0, "cost.watts")
    assert given.kwh(hours=2.5) == 0.1


def test_a_plan_bills_the_hours_of_its_estimate() -> None:
    sets = ["model.vocab_size=512", "cost.watts=50", "cost.price_per_kwh=0.5"]
    recipe = load_recipe("llama_tiny", sets)
    found = plan(recipe, draft_model(recipe), find_mac("M1 16GB"))
    assert found.speed is not None
    assert found.cost is not None
    hours = found.speed.hours(found.tokens)
    assert found.cost.kwh == pytest.approx([0.05 * each for each in hours])
    assert found.facts()["cost"]["power"] == {"watts": 50.0, "source": "cost.watts"}
    assert "EUR" in found.cost.text


def zone(folder: Path, name: str, energy: int, covers: str = "package-0") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "name").write_text(f"{covers}\n")
    (folder / name / "energy_uj").write_text(f"{energy}\n")
    (folder / name / "max_energy_range_uj").write_text("5000000\n")


def test_packages_are_counted_once_and_past_the_end_of_a_counter(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 1_000_000)
    zone(tmp_path, "intel-rapl:1", 4_000_000, "package-1")
    zone(tmp_path, "intel-rapl:0:0", 7, "core")
    zone(tmp_path, "intel-rapl:2", 0, "psys")
    counter = EnergyCounter(tmp_path)
    zone(tmp_path, "intel-rapl:0", 3_500_000)
    zone(tmp_path, "intel-rapl:1", 1_000_000, "package-1")
    zone(tmp_path, "intel-rapl:2", 4_900_000, "psys")  # the packages again, and the rest
    assert counter.joules() == pytest.approx(2.5 + 2.0)
    assert counter.joules() == 0.0


def test_a_counter_that_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    assert EnergyCounter(tmp_path / "none").joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")
    assert EnergyCounter(tmp_path).joules() is None
