"""Energy per token, from the chip's power that macOS's powermetrics reports while steps run.

    energy = mean power · seconds / tokens

The power is that of CPU, GPU and neural engine; memory, display and the rest of the machine are
excluded. It is kept for the costs of later plans and reports (memory/cost.py).
"""

import os
import plistlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any
from xml.parsers.expat import ExpatError

from ..memory.cost import record_watts

INTERVAL_MS = 500
SAMPLES = 6

PATIENCE_S = 30.0
"""Seconds that powermetrics may take beyond the time of its samples."""

Work = Callable[[], tuple[float, int]]
"""Runs some steps and returns their seconds and tokens."""


@dataclass(frozen=True)
class Energy:
    """Energy of training.

    Attributes:
        watts: mean power of CPU, GPU and neural engine while steps ran.
        joules_per_million_tokens: energy for a million tokens at that power.
        missing: why both are None; None where they were measured.
    """

    watts: float | None = None
    joules_per_million_tokens: float | None = None
    missing: str | None = None


def measure_energy(work: Work) -> Energy:
    """Measure the energy of `work`, which is called repeatedly for some seconds.

    Where energy can't be measured, nothing is run, and `missing` gives the reason.
    """
    if sys.platform != "darwin":
        return Energy(missing="powermetrics exists on macOS only")
    if shutil.which("powermetrics") is None:
        return Energy(missing="powermetrics is not on the PATH")
    # A child of sudo can't be ended by a user, so powermetrics gets a limit.
    options = ["powermetrics", "--samplers", "cpu_power,gpu_power", "-f", "plist"]
    options += ["-i", str(INTERVAL_MS), "-n", str(SAMPLES)]
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen([*as_root, *options], stdout=out, stderr=err)
        except OSError as error:
            return Energy(missing=f"powermetrics can't be started: {error.strerror}")
        return _during(process, work, out, err)


def _during(
    process: "subprocess.Popen[bytes]", work: Work, out: IO[bytes], err: IO[bytes]
) -> Energy:
    began = time.monotonic()
    seconds, tokens = 0.0, 0
    while process.poll() is None:
        if time.monotonic() - began > PATIENCE_S + SAMPLES * INTERVAL_MS / 1000:
            return Energy(missing="powermetrics did not end")
        took, trained = work()
        seconds, tokens = seconds + took, tokens + trained
    out.seek(0)
    watts = mean_watts(out.read())
    if watts is None or not tokens:
        err.seek(0)
        messages = err.read().decode(errors="replace").strip().splitlines()
        why = messages[0] if messages else f"it ended with code {process.returncode}"
        return Energy(
            missing=f"powermetrics told no power ({why}); it needs root: run sudo -v, then this "
            "command again"
        )
    record_watts(watts)
    return Energy(watts, watts * seconds / tokens * 1e6)


def mean_watts(plists: bytes) -> float | None:
    """Mean power over the samples of powermetrics, property lists that each end in a NUL byte; None
    without a sample."""
    joules = seconds = 0.0
    for text in plists.split(b"\0"):
        try:
            sample: Any = plistlib.loads(text.strip())
            processor, took = sample["processor"], sample["elapsed_ns"] / 1e9
            parts = [processor.get(f"{part}_power", 0.0) for part in ("cpu", "gpu", "ane")]
            joules += processor.get("combined_power", sum(parts)) / 1e3 * took
        except (ExpatError, ValueError, KeyError, TypeError):
            continue  # cut off, or without power
        seconds += took
    return joules / seconds if seconds else None
