"""Energy per token, from a powermetrics that the test writes."""

import os
import plistlib
import sys
from pathlib import Path

import pytest

from mlx_transformers.memory.cost import measured_watts
from mlx_transformers.profile import energy
from mlx_transformers.profile.energy import Energy, mean_watts, measure_energy
from mlx_transformers.report.profiles import energy_text


def sample(seconds: float, **milliwatts: float) -> bytes:
    powers = {f"{name}_power": value for name, value in milliwatts.items()}
    return plistlib.dumps({"elapsed_ns": round(seconds * 1e9), "processor": powers})


FIRST = sample(1.0, cpu=1000.0, gpu=7000.0, ane=0.0, combined=8000.0)
SECOND = sample(3.0, cpu=500.0, gpu=11000.0, ane=500.0)


def test_the_mean_weighs_samples_by_their_time_and_leaves_out_half_ones() -> None:
    """8 W for a second, 12 W for three."""
    assert mean_watts(FIRST + b"\0" + SECOND) == pytest.approx((8.0 + 3 * 12.0) / 4)
    assert mean_watts(FIRST + b"\0\n" + SECOND[:80]) == pytest.approx(8.0)
    assert mean_watts(b"") is mean_watts(b"Machine model: Mac14,2") is None


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, program: str) -> None:
    """A program on a PATH that has nothing else."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(energy.sys, "platform", "darwin")


WRITES = f"""
import sys, time
time.sleep(0.3)
assert "--samplers" in sys.argv and "plist" in sys.argv
sys.stdout.buffer.write({FIRST!r} + bytes(1) + {SECOND!r})
"""


def work() -> tuple[float, int]:
    """Two seconds for 500 tokens."""
    return 2.0, 500


def test_energy_is_power_by_the_time_of_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "powermetrics", WRITES)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    found = measure_energy(work)
    assert found.watts == measured_watts() == pytest.approx(11.0)
    assert found.joules_per_million_tokens == pytest.approx(11.0 * 2.0 / 500 * 1e6)
    assert found.missing is None
    assert energy_text(found).startswith("44.00 kJ per million tokens, 11.0 W")


def test_a_user_asks_through_sudo_and_is_told_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, monkeypatch, "powermetrics", "raise SystemExit('not called')")
    refuses = "import sys; sys.exit('sudo: a password is required: ' + sys.argv[1])"
    fake(tmp_path, monkeypatch, "sudo", refuses)
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    found = measure_energy(work)
    assert found.watts is found.joules_per_million_tokens is None
    assert "a password is required: -n" in energy_text(found)
    assert "sudo -v" in energy_text(found)


@pytest.mark.parametrize(("system", "said"), [("linux", "macOS only"), ("darwin", "the PATH")])
def test_where_it_cannot_be_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, said: str
) -> None:
    monkeypatch.setattr(energy.sys, "platform", system)
    monkeypatch.setenv("PATH", str(tmp_path))

    def never() -> tuple[float, int]:
        raise AssertionError("run")

    found = measure_energy(never)
    assert found == Energy(missing=found.missing)
    assert said in energy_text(found)
