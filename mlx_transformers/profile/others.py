"""How busy other processes keep the machine while something is measured.

The system's load average won't do: it counts the measurement itself, and what ended a minute ago.
"""

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

BUSY = 0.2
"""Share of the cores' time beyond which other processes disturb a measurement."""

STAT = Path("/proc/stat")
IDLE, IOWAIT, STEAL = 3, 4, 7
"""Places of the idle times, and of the last busy one, among the times of a line of `STAT`."""

HOST_CPU_LOAD_INFO, MACH_IDLE, MACH_STATES = 3, 2, 4
"""Constants of mach/host_info.h and mach/machine.h: user, system, idle, nice."""


class Others:
    """The share of the cores' time that other processes took since this was made."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = time.monotonic(), machine_busy_s(), own_s()

    def share(self) -> float | None:
        """The mean over all cores, 0 to 1, measured for as long as possible; None: unknown here."""
        took = time.monotonic() - self._wall
        busy = machine_busy_s()
        if self._busy is None or busy is None or took <= 0:
            return None
        others = (busy - self._busy) - (own_s() - self._own)
        return min(1.0, max(0.0, others / took / (os.cpu_count() or 1)))


def sentence(share: float | None) -> str | None:
    """Say that other processes disturb a measurement; None where they don't, or it is unknown."""
    if share is None or share <= BUSY:
        return None
    return (
        f"Other processes take {share:.0%} of this machine's cores, so figures will be too low. "
        "Measure again when it is idle."
    )


def own_s() -> float:
    """CPU seconds of this process with all its threads, and of its children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def machine_busy_s() -> float | None:
    """CPU seconds that all cores have worked since the machine was started; None: unknown here."""
    try:
        ticks = _mach_ticks() if sys.platform == "darwin" else _stat_ticks(STAT.read_text())
    except (OSError, ValueError, AttributeError):
        return None
    return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def _stat_ticks(text: str) -> int:
    """Busy ticks of all cores from the text of `STAT`, time stolen by other machines included."""
    times = [int(number) for number in text.split("\n", 1)[0].split()[1:]]
    return sum(times[: STEAL + 1]) - times[IDLE] - times[IOWAIT]


def _mach_ticks() -> int | None:
    """Busy ticks of all cores by `host_statistics`; None where it fails."""
    system = ctypes.CDLL(None)
    system.mach_host_self.restype = ctypes.c_uint
    system.host_statistics.argtypes = [
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_uint),
        ctypes.POINTER(ctypes.c_uint),
    ]
    ticks, count = (ctypes.c_uint * MACH_STATES)(), ctypes.c_uint(MACH_STATES)
    host = system.mach_host_self()
    if system.host_statistics(host, HOST_CPU_LOAD_INFO, ticks, ctypes.byref(count)) != 0:
        return None
    return sum(ticks) - ticks[MACH_IDLE]
