"""A fast BLAS in front of the reference one that MLX's Linux CPU wheel links.

The wheel carries netlib's BLAS, about forty times slower than OpenBLAS at a matrix product. A
library that is loaded with global symbols before MLX answers MLX's calls instead. Only
`core.backend` calls this, on Linux, before `mlx.core` is loaded.
"""

import _ctypes
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .jit import cpu

GFORTRAN = b"libgfortran.so.5"
"""The Fortran run time that OpenBLAS wants and that a fresh Linux machine may lack."""

CURE = "install 'cmeel-openblas' with pip, or libopenblas0 with the system's package manager"

NEEDS = {"SKYLAKEX": "avx512f", "COOPERLAKE": "avx512f", "SAPPHIRERAPIDS": "avx512f"}
"""The instruction set that an OpenBLAS built for one target alone can't do without."""


def load(cache: Callable[[], Path]) -> tuple[str, list[str]]:
    """Load the first OpenBLAS that can be had; the reference BLAS stays when none can.

    Args:
        cache: makes and returns the private folder for a copy of the Fortran run time.

    Returns:
        What answers MLX's calls now, and what went wrong on the way there.
    """
    problems: list[str] = []
    for name, attempt in _attempts(cache):
        try:
            attempt()
        except (OSError, ValueError) as error:
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
        found = process.dladdr(address, ctypes.byref(info))
    except (AttributeError, OSError):
        return None
    return os.fsdecode(info.dli_fname) if found and info.dli_fname else None


class _DlInfo(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


def _attempts(cache: Callable[[], Path]) -> Iterator[tuple[str, Callable[[], None]]]:
    packaged = installed("cmeel.prefix/lib/libopenblas.so.0")
    if packaged is not None:
        path = str(packaged)
        yield "OpenBLAS (cmeel-openblas)", partial(_globally, path)

        def with_private_gfortran() -> None:
            _preload_gfortran(cache)
            _globally(path)

        yield "OpenBLAS (cmeel-openblas, with MLX's own libgfortran)", with_private_gfortran
    for soname in ("libopenblas.so.0", "libopenblas.so"):
        yield f"OpenBLAS (the system's {soname})", partial(_globally, soname)


def _globally(library: str) -> None:
    opened = ctypes.CDLL(library)
    try:
        refuse_foreign(_configuration(opened), cpu())
    except OSError:
        # while it is open, the loader takes it for any other library of its name
        _ctypes.dlclose(opened._handle)
        raise
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)


def _configuration(library: ctypes.CDLL) -> str:
    try:
        library.openblas_get_config.restype = ctypes.c_char_p
        return str(library.openblas_get_config().decode())
    except AttributeError:
        return ""


def refuse_foreign(configuration: str, cpu: str) -> None:
    """Raise OSError for an OpenBLAS whose first matrix product would kill the process here.

    Args:
        configuration: what `openblas_get_config` says, such as `OpenBLAS 0.3.31 SKYLAKEX`. A
            build with DYNAMIC_ARCH chooses among its kernels; another has those of its target.
        cpu: the processor's name and instruction sets (`core.jit.cpu`).
    """
    words = configuration.split()
    missing = {t: NEEDS[t] for t in words if t in NEEDS and NEEDS[t] not in cpu.split()}
    if missing and "DYNAMIC_ARCH" not in words:
        target, instructions = next(iter(missing.items()))
        raise OSError(f"built for {target}, and this CPU has no {instructions}")


def _preload_gfortran(cache: Callable[[], Path]) -> None:
    """Load MLX's own Fortran run time under the name that OpenBLAS asks for.

    The MLX wheel bundles libgfortran under a name of its own, so the loader doesn't see that it
    is the one OpenBLAS needs. A private copy whose SONAME is put back does what is missing.
    """
    folder = installed("mlx_cpu.libs")
    bundled = sorted(folder.glob("libgfortran-*.so.5*")) if folder else []
    if not bundled:
        raise OSError("no libgfortran.so.5 on this system and none inside the MLX wheel")
    for quadmath in sorted(bundled[0].parent.glob("libquadmath-*")):
        ctypes.CDLL(str(quadmath))
    ctypes.CDLL(str(_renamed(bundled[0], cache() / "lib" / bundled[0].name)))


def _renamed(library: Path, folder: Path) -> Path:
    copy = folder / GFORTRAN.decode()
    if copy.exists() and copy.stat().st_size == library.stat().st_size:
        return copy
    data, own = library.read_bytes(), library.name.encode()
    if own not in data or len(own) < len(GFORTRAN):
        raise ValueError(f"{library.name} does not carry its own name")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{copy.name}.{os.getpid()}"
    unfinished.write_bytes(data.replace(own, GFORTRAN.ljust(len(own), b"\0")))
    os.replace(unfinished, copy)
    return copy


def installed(relative: str) -> Path | None:
    """A file or folder that a package put beside the importable ones."""
    for entry in sys.path:
        path = Path(entry or ".") / relative
        if path.exists():
            return path
    return None
