"""Energy in a report: what the processor counted, or an estimate that says so."""

import json
from pathlib import Path

from mlx_transformers.report.costs import cost_rows
from mlx_transformers.report.run import read
from mlx_transformers.report.runs import report
from mlx_transformers.runs.folder import RunFolder

from .conftest import RECIPE, MakeRun, log

FACTORS = "[cost]\nwatts = 90\nprice_per_kwh = 0.4\nco2_g_per_kwh = 500\n"


def test_counted_energy_is_added_up(make_run: MakeRun) -> None:
    records = [record | ({"joules": 1.8e6} if "mfu" in record else {}) for record in log()]
    run = make_run("a", records=records)
    (run / "recipe.toml").write_text(RECIPE.format(dim=16) + FACTORS)
    rows = cost_rows(read(RunFolder(run)))
    assert rows == {"energy of the processor, measured": "2 kWh, 0.8 EUR, 1 kg of CO2"}
    assert "2 kWh, 0.8 EUR" in report([run]).read_text()


def test_time_by_a_power_is_an_estimate_and_says_whose(make_run: MakeRun) -> None:
    """Four seconds at 90 W are a tenth of a watt-hour."""
    run = make_run("a")
    (run / "recipe.toml").write_text(RECIPE.format(dim=16) + FACTORS)
    assert cost_rows(read(RunFolder(run))) == {
        "energy, an estimate": "0.0001 kWh, 0.00004 EUR, 0.05 g of CO2 (90 W: cost.watts)"
    }


def test_a_known_mac_has_an_assumed_power_and_an_unknown_machine_none(make_run: MakeRun) -> None:
    run = make_run("a")
    assert cost_rows(read(RunFolder(run))) == {}
    facts = {"metal": True, "device_name": "Apple M3 Max", "memory_gib": 64.0}
    Path(run / "environment.json").write_text(json.dumps(facts))
    (row,) = cost_rows(read(RunFolder(run))).items()
    assert row[0] == "energy, an estimate"
    assert row[1].endswith("(70 W: assumed for an M3 Max)")
