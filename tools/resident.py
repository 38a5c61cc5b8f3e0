"""The peak of a process's resident memory; for benchmarks in any interpreter, without packages."""

import resource
import sys


def peak_mib() -> float:
    """Return the most memory that this process had resident, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
