"""Energy counters of the processor, where the system lets a program read them.

Linux has them below /sys/class/powercap (RAPL of Intel and AMD), often for root alone. They cover
the processor's packages, not memory, graphics cards or the rest of the machine. macOS has none that
a program can read without root: `mlxt profile` asks powermetrics there.
"""

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


class EnergyCounter:
    """Sums the energy of all processor packages since it was made or last read.

    Args:
        folder: where the system lists its zones; those whose file `name` begins with "package"
            count, since "psys" contains them, and "core" and "dram" are parts of one.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._zones = [zone for zone in sorted(folder.glob("*-rapl:*")) if _is_package(zone)]
        self._before = self._now()

    def joules(self) -> float | None:
        """Return the energy since the last call; None where it can't be read."""
        before, self._before = self._before, self._now()
        if not before or self._before.keys() != before.keys():
            return None
        spent = 0
        for zone, now in self._before.items():
            past = now - before[zone]
            # A counter that has reached its end begins again at 0.
            spent += past if past >= 0 else past + _number(zone / "max_energy_range_uj")
        return spent * MICRO

    def _now(self) -> dict[Path, int]:
        try:
            return {zone: _number(zone / "energy_uj") for zone in self._zones}
        except (OSError, ValueError):
            return {}


def _is_package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text(encoding="ascii").startswith("package")
    except (OSError, ValueError):
        return False


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
