"""Before MLX loads: a fast BLAS and vectorised kernels on Linux CPUs. Nothing of it on macOS.

The one place that knows how platforms differ. `prepare()` runs once, when MLX is first imported
after this package; it never raises: what is missing is recorded in its report and named in one
warning, and MLX runs more slowly. `MLXT_NO_BOOST=1` in the environment turns it off.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from . import blas, cpu_streams, jit
from .cache import cache_folder
from .errors import MlxtError

MLX = "mlx.core"
"""The module that everything here has to come before."""

CACHE_LIMIT = 2 << 30
"""Bytes of freed buffers that MLX may keep on CPU; its own 32 MB make every step page-fault."""


class BackendWarning(UserWarning):
    """Training works, but slower than this machine could."""


@dataclass
class Report:
    """The BLAS and the kernel compiler in use; `mlxt doctor` prints it.

    Attributes:
        blas: what multiplies matrices on the CPU.
        jit: how MLX's fused CPU kernels are compiled: vectorised, plain, none, or MLX's own.
        jit_flags: the compiler flags added to MLX's.
        jit_folder: where the kernels are kept.
        cpu_streams: streams that share the rows of a training step (`core.cpu_streams`).
        one_stream: why there is one of them, whatever the environment asks for; empty if it counts.
        notes: what was tried and failed, and why.
        warnings: those shown to the user.
    """

    blas: str = "MLX's own"
    jit: str = "MLX's own"
    jit_flags: str = ""
    jit_folder: str = ""
    cpu_streams: int = 1
    one_stream: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


_report: Report | None = None
_precompiling: subprocess.Popen[bytes] | None = None
"""Kept so that it is waited for no earlier than it ends."""


def prepare_with_mlx() -> None:
    """Have `prepare` run when MLX is about to load, or now if it is loaded already.

    What needs no MLX, `mlxt --help` for one, then waits neither for it nor for a compiler.
    """
    if MLX in sys.modules:
        prepare()
    elif sys.platform.startswith("linux"):
        sys.meta_path.insert(0, _Gate())


class _Gate(MetaPathFinder):
    """Stands before MLX until its first import, from wherever that comes."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != MLX:
            return None
        sys.meta_path.remove(self)
        report = prepare()
        spec = find_spec(MLX)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_tune(module: ModuleType) -> None:
            load(module)
            if _boosted():
                _step(report, "CPU streams", _share_rows)
                _step(report, "buffer cache", _keep_buffers)

        spec.loader.exec_module = load_and_tune  # type: ignore[method-assign]
        return spec


def prepare() -> Report:
    """Make MLX fast on this machine; the second call returns the first one's report."""
    global _report
    if _report is None:
        _report = Report()
        try:
            _prepare(_report)
        except Exception as error:  # a slow run is better than none
            _warn(_report, f"MLX runs as it is: {type(error).__name__}: {error}")
    return _report


def precompile() -> None:
    """Begin what the first compiled step waits for, in another process, while data is prepared."""
    global _precompiling
    report = prepare()
    if report.jit == "vectorised" and "MLX_DISABLE_COMPILE" not in os.environ:
        _precompiling = jit.precompile(Path(report.jit_folder))


def _boosted() -> bool:
    return os.environ.get("MLXT_NO_BOOST", "") in ("", "0")


def settle_walk(deep: bool) -> None:
    """Choose how MLX walks graphs in this process, by the first run that is built.

    CPU streams need the wide walk: after a depth-first run, later runs have one stream.

    Args:
        deep: whether the run computes whole batches and needs the memory that a depth-first walk
            saves.
    """
    report = prepare()
    if cpu_streams.settle_walk(deep):
        report.cpu_streams = 1
        report.one_stream = "An earlier run of this process needed the memory."


def _prepare(report: Report) -> None:
    if not sys.platform.startswith("linux"):
        report.one_stream = "Only Linux has several."
        return
    if not _boosted():
        report.one_stream = "MLXT_NO_BOOST turns them off."
        report.blas = report.jit = "MLX's own (MLXT_NO_BOOST is set)"
        return
    loaded = MLX in sys.modules
    if loaded:
        report.one_stream = "They need mlx_transformers imported before mlx."
        _warn(
            report,
            "mlx was imported before mlx_transformers: its slow BLAS stays in force. "
            "Import mlx_transformers first.",
        )
    else:
        _step(report, "BLAS", _front_blas)
    _step(report, "JIT", _vectorise)
    if loaded:
        _step(report, "buffer cache", _keep_buffers)


def _step(report: Report, name: str, step: Callable[[Report], None]) -> None:
    try:
        step(report)
    except Exception as error:  # one step's failure must not cost the others
        kind = "" if isinstance(error, MlxtError) else f"{type(error).__name__}: "
        report.notes.append(f"{name}: {kind}{error}")


def _front_blas(report: Report) -> None:
    report.blas, problems = blas.load(cache_folder)
    report.notes += problems
    if report.blas == "reference":
        _warn(
            report,
            "No OpenBLAS could be loaded, so matrix products run up to 40 times slower: "
            f"{blas.CURE}. MLXT_NO_BOOST=1 silences this.",
        )


def _share_rows(report: Report) -> None:
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        # Other libraries' threads can't be changed, and streams need products of one thread each.
        report.cpu_streams = cpu_streams.prepare(max(blas.thread_counts().values(), default=1))


def _vectorise(report: Report) -> None:
    try:
        setup = jit.vectorise(cache_folder)
    except jit.NoCompiler as error:
        report.jit = "none"
        os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
        _warn(
            report,
            f"MLX can't fuse operations on this CPU, since {error}: steps run about half as "
            "fast. Install g++. MLXT_NO_BOOST=1 silences this.",
        )
    except (OSError, ValueError) as error:
        report.jit = "plain"
        _warn(report, f"MLX's kernels are compiled without vector instructions: {error}.")
    else:
        report.jit, report.jit_flags = "vectorised", setup.flags
        report.jit_folder = str(setup.folder)


def _keep_buffers(report: Report) -> None:
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        mx.set_cache_limit(min(CACHE_LIMIT, memory // 8))


def _warn(report: Report, message: str) -> None:
    report.warnings.append(message)
    warnings.warn(message, BackendWarning, stacklevel=2)
