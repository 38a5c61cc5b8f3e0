"""Puts a fast BLAS in front of the reference one that MLX's Linux CPU wheel links.

The wheel carries netlib's BLAS, about forty times slower than OpenBLAS at a matrix product. A
library that is loaded with global symbols before MLX answers MLX's calls instead. NumPy's own wheel
has an OpenBLAS with kernels for every CPU, under prefixed names and with 64-bit integers; a small
adapter, compiled once, gives its matrix products the names that MLX calls. Only `core.backend`
calls this, on Linux, before `mlx.core` is loaded.
"""

import ctypes
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .jit import finished, real_compiler, stamp

CURE = "install g++, or libopenblas0 with the system's package manager"

CHOICE = "MLXT_BLAS"
"""Environment variable that names a BLAS library to load instead: a path, or a name that stands in
this Python environment's `lib` (`libmkl_rt.so.3` after `pip install mkl`) or that the loader finds
(`libblis.so`)."""

ADAPTER = """\
#include <stdint.h>
#define REAL(name, number) \\
  void scipy_cblas_##name##64_(int, int, int, int64_t, int64_t, int64_t, number, const number *, \\
      int64_t, const number *, int64_t, number, number *, int64_t); \\
  void cblas_##name(int order, int ta, int tb, int m, int n, int k, number alpha, \\
      const number *a, int lda, const number *b, int ldb, number beta, number *c, int ldc) { \\
    scipy_cblas_##name##64_(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \\
  }
REAL(sgemm, float)
REAL(dgemm, double)
void scipy_cblas_cgemm64_(int, int, int, int64_t, int64_t, int64_t, const void *, const void *,
    int64_t, const void *, int64_t, const void *, void *, int64_t);
void cblas_cgemm(int order, int ta, int tb, int m, int n, int k, const void *alpha,
    const void *a, int lda, const void *b, int ldb, const void *beta, void *c, int ldc) {
  scipy_cblas_cgemm64_(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""
"""C source of the adapter: the three products that MLX calls, with their integers widened."""


def load(cache: Callable[[], Path]) -> tuple[str, list[str]]:
    """Load the first BLAS that works; the reference BLAS stays when none does.

    Args:
        cache: returns the private folder where the compiled adapter is kept.

    Returns:
        The name of the BLAS that answers MLX's calls, and what went wrong with those before it.
    """
    problems: list[str] = []
    for name, attempt in _attempts(cache):
        try:
            attempt()
        except (OSError, subprocess.SubprocessError) as error:
            problems.append(f"{name}: {error}")
        else:
            return name, problems
    return "reference", problems


def library_in_front() -> str | None:
    """The file that answers a `cblas_sgemm` looked up in the global scope, None where none does."""
    try:
        process = ctypes.CDLL(None)
        address = ctypes.cast(process.cblas_sgemm, ctypes.c_void_p)
        info = _DlInfo()
        known = process.dladdr(address, ctypes.byref(info))
    except (AttributeError, OSError):
        return None
    return os.fsdecode(info.dli_fname) if known and info.dli_fname else None


SET_THREADS = {
    "scipy_openblas_set_num_threads64_": "scipy_openblas_get_num_threads64_",
    "openblas_set_num_threads": "openblas_get_num_threads",
    "MKL_Set_Num_Threads": "MKL_Get_Max_Threads",
}
"""Functions that set the threads of a product and return them: of OpenBLAS in NumPy's wheel and in
the system's library, and of MKL."""


def thread_counts() -> dict[str, int]:
    """The threads of a matrix product, by the function of `SET_THREADS` that sets them, if any."""
    process = ctypes.CDLL(None)
    return {
        setter: getattr(process, getter)()
        for setter, getter in SET_THREADS.items()
        if hasattr(process, setter) and hasattr(process, getter)
    }


@contextmanager
def single_threaded() -> Iterator[None]:
    """Have each matrix product inside the block use one thread, if `SET_THREADS` knows the BLAS."""
    process, before = ctypes.CDLL(None), thread_counts()
    try:
        for setter in before:
            getattr(process, setter)(1)
        yield
    finally:
        for setter, count in before.items():
            getattr(process, setter)(count)


class _DlInfo(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


def _attempts(cache: Callable[[], Path]) -> Iterator[tuple[str, Callable[[], None]]]:
    if choice := os.environ.get(CHOICE):
        installed = Path(sys.prefix, "lib", choice)
        named = str(installed) if installed.is_file() else choice
        yield f"{choice} ({CHOICE})", partial(_globally, named)
    for library in _of_numpy():
        yield "OpenBLAS (NumPy's)", partial(_through_adapter, library, cache)
    for soname in ("libopenblas.so.0", "libopenblas.so"):
        yield f"OpenBLAS (the system's {soname})", partial(_globally, soname)


def _of_numpy() -> list[Path]:
    """OpenBLAS libraries inside NumPy's wheel, found without importing NumPy."""
    folders = (Path(entry or ".") / "numpy.libs" for entry in sys.path)
    return [path for folder in folders for path in sorted(folder.glob("libscipy_openblas64_*.so*"))]


def _globally(library: str) -> None:
    opened = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    if not hasattr(opened, "cblas_sgemm"):
        raise OSError("it has no cblas_sgemm")


def _through_adapter(library: Path, cache: Callable[[], Path]) -> None:
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(_adapter(cache() / "lib")), mode=ctypes.RTLD_GLOBAL)


def _adapter(folder: Path) -> Path:
    """The compiled adapter; compiles it where it is missing or was changed.

    Raises:
        OSError: there is no compiler, or the folder can't be written to.
        subprocess.SubprocessError: the compiler failed.
    """
    out = (
        folder / f"blas-{hashlib.sha256(ADAPTER.encode()).hexdigest()[:12]}-{os.uname().machine}.so"
    )
    if finished(out):
        return out
    compiler = real_compiler()
    if compiler is None:
        raise OSError("its adapter needs g++, and there is none on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    command = [compiler, "-x", "c", "-O2", "-fPIC", "-shared", "-", "-o", str(unfinished)]
    try:
        subprocess.run(command, input=ADAPTER.encode(), capture_output=True, timeout=60, check=True)
        stamp(unfinished)
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return out
