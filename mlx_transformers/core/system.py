"""Memory of this process and swap in use, as the system reports them.

No package is needed: Linux keeps both in /proc, macOS answers `proc_pid_rusage` and `vm.swapusage`.
What can't be had is None; nothing here raises.
"""

import ctypes
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

RUSAGE_INFO_V2 = 2
PHYS_FOOTPRINT = 9
"""Index of an 8-byte word of `rusage_info_v2` (sys/resource.h of macOS), whose uuid takes two."""
FIELDS = 24
"""Words of a buffer that holds such a structure."""


def process_bytes() -> int:
    """Memory of this process now, swapped pages included; its peak where only that is reported.

    On macOS it is the physical footprint, what Activity Monitor shows: it counts what Metal holds.
    """
    size = _darwin_footprint() if sys.platform == "darwin" else proc_bytes("self/status")
    if size is not None:
        return size
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def swap_bytes() -> int | None:
    """Swap that the whole system uses."""
    if sys.platform == "darwin":
        try:
            command = ["/usr/sbin/sysctl", "-n", "vm.swapusage"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5)
            return darwin_swap(done.stdout)
        except (OSError, subprocess.SubprocessError):
            return None
    return linux_swap(_read("meminfo"))


def proc_bytes(name: str) -> int | None:
    """Resident and swapped bytes in a status file of /proc."""
    text = _read(name)
    kibibytes = [kib(text, key) for key in ("VmRSS", "VmSwap")]
    return None if kibibytes[0] is None else kibibytes[0] + (kibibytes[1] or 0)


def linux_swap(meminfo: str) -> int | None:
    """Used swap, from the text of /proc/meminfo."""
    total, free = kib(meminfo, "SwapTotal"), kib(meminfo, "SwapFree")
    return None if total is None or free is None else total - free


def darwin_swap(text: str) -> int | None:
    """Used swap, from `sysctl vm.swapusage`: "total = 2048.00M  used = 1019.75M  ..."."""
    match = re.search(r"used = ([\d.,]+)([KMGT])", text)
    if match is None:
        return None
    unit: int = 1024 ** (1 + "KMGT".index(match[2]))
    return round(float(match[1].replace(",", ".")) * unit)


def kib(text: str, key: str) -> int | None:
    """Bytes of a line "Key:   123 kB"."""
    match = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return None if match is None else int(match[1]) * 1024


def _read(name: str) -> str:
    try:
        return (Path("/proc") / name).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _darwin_footprint() -> int | None:
    try:
        info = (ctypes.c_uint64 * FIELDS)()
        library = ctypes.CDLL("/usr/lib/libproc.dylib")
        failed = library.proc_pid_rusage(os.getpid(), RUSAGE_INFO_V2, ctypes.byref(info))
        return None if failed else int(info[PHYS_FOOTPRINT])
    except (OSError, AttributeError):
        return None
