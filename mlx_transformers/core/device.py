"""Facts about the machine, the device that computes, and what the backend has in force."""

import os
import platform
import sys
import time
from importlib import metadata
from typing import Any

import mlx.core as mx

from . import backend, blas
from .versions import version

GIB = 2**30


def facts() -> dict[str, Any]:
    """Facts that `mlxt doctor` prints and a run's environment.json holds.

    Matrix products are really timed, so a slow BLAS shows whatever the report says.
    """
    report = backend.prepare()
    info = mx.device_info()
    linux_cpu = sys.platform.startswith("linux") and mx.default_device() == mx.cpu
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "mlxt": version("mlxt"),
        "device": str(mx.default_device()),
        "device_name": info.get("device_name", platform.processor() or platform.machine()),
        "metal": mx.metal.is_available(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes() / GIB, 1),
        "working_set_gib": round(working_set_bytes() / GIB, 1),
        "blas": report.blas,
        "blas_library": blas.library_in_front() if linux_cpu else None,
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "all cores"),
        "cpu_streams": report.cpu_streams,
        "matmul_gflop_per_s": round(matmul_flops() / 1e9),
        "kernels": report.jit,
        "kernel_flags": report.jit_flags,
        "kernel_folder": report.jit_folder,
        "mlx_data": _version("mlx-data") or "not installed: NumPy loads instead",
        "notes": report.notes,
        "warnings": report.warnings,
    }


def memory_bytes() -> int:
    """Physical memory; on Apple silicon CPU and GPU share it."""
    reported = mx.device_info().get("memory_size")
    return int(reported) if reported else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def working_set_bytes() -> int:
    """Metal's recommended working-set size in bytes; all memory without Metal."""
    reported = mx.device_info().get("max_recommended_working_set_size")
    return int(reported) if reported else memory_bytes()


PATIENCE_S = 0.5
"""Seconds after which a product is not measured again: in float16 one takes that long on CPUs."""


def matmul_flops(dtype: mx.Dtype = mx.float32, repeats: int = 5) -> float:
    """Floating-point operations per second of a large matrix product, here and now."""
    size = 1024 if mx.default_device() == mx.cpu else 4096
    a = mx.random.normal((size, size), key=mx.random.key(0)).astype(dtype)
    mx.eval(a @ a)
    best, spent = float("inf"), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        mx.eval(a @ a)
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
        if spent > PATIENCE_S:
            break
    return 2 * size**3 / best


def set_wired_limit(n_bytes: float | None = None) -> None:
    """Limit the memory that Metal keeps wired (macOS 15 and later); does nothing elsewhere.

    None takes Metal's recommended working set, which is also the most.
    """
    if mx.metal.is_available():
        most = working_set_bytes()
        mx.set_wired_limit(most if n_bytes is None else min(most, round(n_bytes)))


def set_cache_limit(n_bytes: float) -> None:
    """Limit the freed memory that MLX caches for reuse."""
    mx.set_cache_limit(round(n_bytes))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except metadata.PackageNotFoundError:
        return None
