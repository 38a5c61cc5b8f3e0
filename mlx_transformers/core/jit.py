"""Vector instructions in the kernels that MLX compiles at run time on Linux CPUs.

MLX fuses elementwise operations by calling `g++ -O3` without the machine's vector instructions.
A `g++` of our own, first on PATH, adds the flags to MLX's compilations and to no others, and says
that the turns of their loops do not depend on each other. The kernels go to a private cache that
belongs to this CPU, this compiler and this wrapper (MLX adds its own version below it). Only
`core.backend` calls this, on Linux, before `mlx.core` is loaded.
"""

import hashlib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FLAG_SETS = (
    "-march=native -fno-math-errno -fno-trapping-math -ffp-contract=off "
    "-finline-limit=100000 --param max-inline-insns-auto=2000",
    "-march=native -fno-math-errno -fno-trapping-math -ffp-contract=off",
)
"""Tried in this order. No contraction: compiled and eager results stay bit-identical."""

MARK = "# mlxt: flags for the kernels that MLX compiles; any other compilation passes unchanged"

INDEPENDENT = r"s/^ *for (/#pragma GCC ivdep\n&/"
"""For sed. MLX writes a result over an input that is needed no more, element by element; a compiler
that can't know the latter takes such loops one number at a time, four times slower."""

PROBE = '#include <cmath>\nextern "C" float probe(float x) { return std::exp(x); }\n'


class NoCompiler(Exception):
    """There is no g++, or one that can't compile; MLX runs without fused kernels."""


@dataclass(frozen=True)
class Jit:
    """What is in force: the flags, and the folder that holds the wrapper and the kernels."""

    flags: str
    folder: Path


def vectorise(cache: Callable[[], Path]) -> Jit:
    """Put the flags in force for this process and its children.

    Raises:
        NoCompiler: MLX's JIT can't work on this machine.
        OSError, ValueError: the cache folder can't be used; MLX's JIT works without the flags.
    """
    compiler = real_compiler()
    if compiler is None:
        raise NoCompiler("there is no g++ on PATH")
    root = cache() / "jit"
    if not re.fullmatch(r"[\w./+@-]+", str(root)):
        raise ValueError(f"MLX's JIT can't work in a folder with such a name: {root}")
    for flags in FLAG_SETS:
        folder = root / fingerprint(compiler, flags)
        wrapper = folder / "bin" / "g++"
        if wrapper.exists() or _compiles(compiler, flags):
            if not wrapper.exists():
                _write(wrapper, _script(compiler, flags))
            _enter(folder)
            return Jit(flags, folder)
    if not _compiles(compiler, ""):
        raise NoCompiler(f"{compiler} can't compile a shared library")
    raise ValueError(f"{compiler} accepts none of the flags")


def real_compiler() -> str | None:
    """The first g++ on PATH that isn't a wrapper of ours: a parent may have passed one on."""
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(entry or ".") / "g++"
        if path.is_file() and os.access(path, os.X_OK) and not _is_wrapper(path):
            return str(path.absolute())
    return None


def fingerprint(compiler: str, flags: str) -> str:
    """Names the folder of kernels that only this CPU, compiler and wrapper may share."""
    binary = Path(compiler).resolve()
    stat = binary.stat()
    built = (str(binary), str(stat.st_size), str(stat.st_mtime_ns))
    parts = (cpu(), _script(compiler, flags), *built)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cpu() -> str:
    """The processor's name and instruction sets, as the kernel tells them."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return os.uname().machine
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def _is_wrapper(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(512)


def _script(compiler: str, flags: str) -> str:
    real, edit = shlex.quote(compiler), shlex.quote(INDEPENDENT)
    return (
        f"#!/bin/sh\n{MARK}\n"
        f'case "$*" in\n'
        f"  *-shared*/mlx/*/cpu/*)\n"
        f'    for word; do case "$word" in *.cpp) sed -i {edit} "$word" ;; esac; done\n'
        f'    exec {real} "$@" {flags} ;;\n'
        f'  *) exec {real} "$@" ;;\n'
        f"esac\n"
    )


def _write(wrapper: Path, text: str) -> None:
    wrapper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = wrapper.with_name(f".{wrapper.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.chmod(0o755)
    os.replace(unfinished, wrapper)


def _compiles(compiler: str, flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(PROBE)
        command = [compiler, "-std=c++17", "-O3", "-fPIC", "-shared", *flags.split()]
        command += [str(source), "-o", str(source.with_suffix(".so"))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def _enter(folder: Path) -> None:
    """Point MLX at the wrapper and at its kernels.

    MLX asks TMPDIR anew for every kernel, so it has to stay set; Python's own temporary files
    go where they went before, in children that import this package too.
    """
    outside = os.environ.get("MLXT_TMPDIR") or tempfile.gettempdir()
    tempfile.tempdir = os.environ["MLXT_TMPDIR"] = outside
    os.environ["TMPDIR"] = str(folder)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    ours = str(folder / "bin")
    os.environ["PATH"] = os.pathsep.join([ours, *(path for path in paths if path != ours)])
