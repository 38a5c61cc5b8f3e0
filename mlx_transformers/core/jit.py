"""Faster run-time compilation of MLX's fused kernels on Linux CPUs.

MLX fuses elementwise operations by calling `g++ -O3` once per kernel, without the machine's vector
instructions. A `g++` of our own, first on PATH, changes those compilations and no others:

- it adds the flags of `FLAG_SETS` and rewrites the kernel's loops (`kernel_loops`);
- it compiles MLX's header once, as a precompiled header: a kernel then takes a fifth of the time.
  `precompile` begins that while a run prepares its data, and the first kernel waits for it;
- it writes a kernel under a temporary name and renames it when finished, with its size as its
  modification time, so that `discard_damaged` finds any kernel that was changed afterwards.

Kernels go to a private cache for this CPU, compiler and wrapper (MLX adds its own version below
it). Only `core.backend` calls this, on Linux, before `mlx.core` is loaded.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .kernel_loops import REWRITE

FLAG_SETS = (
    "-march=native -fno-math-errno -fno-trapping-math -ffp-contract=off "
    "-finline-limit=100000 --param max-inline-insns-auto=2000",
    "-march=native -fno-math-errno -fno-trapping-math -ffp-contract=off",
)
"""Tried in this order. No contraction: compiled and eager results stay bit-identical."""

MARK = "# mlxt: flags for the kernels that MLX compiles; any other compilation passes unchanged"

HEADER = "mlx/backend/cpu/compiled_preamble.h"
"""The header that every kernel of MLX includes first."""

PRECOMPILE = "--mlxt-precompile"
"""Asks the wrapper for the precompiled header alone: an include folder and the file to make."""

EPOCH = 1_000_000_000
"""A finished kernel's modification time is this plus its size in bytes, in seconds."""

ROOM = 128 << 20
"""Free bytes below which the cache's disk counts as full: a precompiled header takes 50 MB."""

TEMPORARY = re.compile(r"^tmp_|^cc|\.\d+$")
"""Names of files before they are renamed: MLX's, the compiler's, the wrapper's."""

SCRIPT = """\
#!/bin/sh
{mark}
precompile() {{
  if [ ! -f "$include/{header}" ] || [ -f "$precompiled" ]; then return; fi
  mkdir -p "${{precompiled%/*}}"
  turns=0
  until mkdir "$precompiled.lock" 2>/dev/null || [ $turns -ge 400 ]; do
    if [ -f "$precompiled" ]; then return; fi
    sleep 0.05
    turns=$((turns + 1))
  done
  trap 'rm -f "$precompiled.$$"; rmdir "$precompiled.lock" 2>/dev/null' EXIT HUP INT TERM
  [ -f "$precompiled" ] ||
    {{ {compiler} -std=c++17 -O3 -Wall -fPIC {flags} "-I$include" -w -x c++-header \\
      "$include/{header}" -o "$precompiled.$$" && mv "$precompiled.$$" "$precompiled"; }}
  trap - EXIT HUP INT TERM  # from here on the lock may be another process's
  rm -f "$precompiled.$$"
  rmdir "$precompiled.lock" 2>/dev/null || true
}}
case "$*" in
  {precompile}*) include=$2 precompiled=$3; precompile; exit ;;
  *-shared*/mlx/*/cpu/*) ;;
  *) exec {compiler} "$@" ;;
esac
include=- output=kernel.so source=kernel.cpp before=
for word; do
  case "$before" in -o) output=$word ;; -I) include=$word ;; esac
  case "$word" in -I?*) include=${{word#-I}} ;; *.cpp) source=$word ;; esac
  before=$word
done
cp "$source" "$source.$$"
awk {rewrite} "$source.$$" > "$source" || cp "$source.$$" "$source"
precompiled=${{output%/cpu/*}}/precompiled/{header}.gch
precompile
{compiler} "-I${{precompiled%/{header}.gch}}" "$@" {flags} -o "$output.$$" ||
  {{ rm -f "$precompiled"; cp "$source.$$" "$source"; {compiler} "$@" {flags} -o "$output.$$"; }} ||
  {{ code=$?; rm -f "$output.$$" "$source.$$"; exit $code; }}
rm -f "$source.$$"
touch -d "@$(({epoch} + $(wc -c < "$output.$$")))" "$output.$$"
mv "$output.$$" "$output"
"""

PROBE = '#include <cmath>\nextern "C" float probe(float x) { return std::exp(x); }\n'


class NoCompiler(Exception):
    """There is no g++, or one that can't compile; MLX runs without fused kernels."""


@dataclass(frozen=True)
class Jit:
    """The compiler flags in use, and the folder of the wrapper and the kernels."""

    flags: str
    folder: Path


def vectorise(cache: Callable[[], Path]) -> Jit:
    """Put the flags in force for this process and its children.

    A cache that can't be written to, or whose disk is full, is replaced by a private temporary
    folder.

    Raises:
        NoCompiler: MLX's JIT can't work on this machine.
        OSError, ValueError: no folder can be used; MLX's JIT works without the flags.
    """
    compiler = real_compiler()
    if compiler is None:
        raise NoCompiler("there is no g++ on PATH")
    root = _writable(cache() / "jit")
    if not re.fullmatch(r"[\w./+@-]+", str(root)):
        raise ValueError(f"MLX's JIT can't work in a folder with such a name: {root}")
    for flags in FLAG_SETS:
        folder = root / fingerprint(compiler, flags)
        wrapper = folder / "bin" / "g++"
        if wrapper.exists() or _compiles(compiler, flags):
            script = _script(compiler, flags)
            if not wrapper.exists() or wrapper.read_text() != script:
                _write(wrapper, script)
            discard_damaged(folder)
            _enter(folder)
            return Jit(flags, folder)
    if not _compiles(compiler, ""):
        raise NoCompiler(f"{compiler} can't compile a shared library")
    raise ValueError(f"{compiler} accepts none of the flags")


def precompile(folder: Path) -> subprocess.Popen[bytes] | None:
    """Begin to precompile MLX's header in another process; None where there is nothing to do.

    Args:
        folder: the folder of the wrapper and the kernels.
    """
    from importlib.metadata import version  # takes time that most commands can spare

    spec = find_spec("mlx")
    for place in (spec.submodule_search_locations or []) if spec else []:
        include = Path(place, "include")
        precompiled = folder / "mlx" / version("mlx") / "precompiled" / f"{HEADER}.gch"
        if (include / HEADER).is_file() and not precompiled.exists():
            command = [str(folder / "bin" / "g++"), PRECOMPILE, str(include), str(precompiled)]
            nothing = subprocess.DEVNULL
            return subprocess.Popen(
                command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )
    return None


def discard_damaged(folder: Path) -> int:
    """Delete kernels that were changed after their compilation; MLX compiles them again.

    Loading a truncated shared library would end the process with SIGBUS. Only file sizes and
    times are read, so this takes milliseconds for thousands of kernels. MLX compiles under a name
    `tmp_*` and renames the result to `lib*`: the former belong to the process that compiles.

    Returns:
        How many were deleted.
    """
    damaged = [kernel for kernel in folder.glob("mlx/*/cpu/lib*.so") if not finished(kernel)]
    for kernel in damaged:
        kernel.unlink(missing_ok=True)
    return len(damaged)


def delete_kernels(folder: Path) -> None:
    """Delete all kernels and precompiled headers, under processes that go on compiling.

    The folders stay, for MLX ends a process whose TMPDIR is missing, and so do the wrapper and
    what was changed within the last hour under a temporary name.
    """
    for path in folder.rglob("*"):
        if path.is_dir() or path.parent.name == "bin":
            continue
        with suppress(FileNotFoundError):  # another process may delete or rename it too
            if not TEMPORARY.search(path.name) or time.time() - path.stat().st_ctime > 3600:
                path.unlink()


def finished(library: Path) -> bool:
    """Whether a compiled library is there and unchanged since `stamp`."""
    try:
        stat = library.stat()
    except OSError:
        return False
    return int(stat.st_mtime) == EPOCH + stat.st_size


def stamp(library: Path) -> None:
    """Set the modification time of a finished library to a function of its size."""
    seconds = EPOCH + library.stat().st_size
    os.utime(library, (seconds, seconds))


def _writable(root: Path) -> Path:
    """`root`, or a private temporary folder where `root` can't be written to or its disk is full.

    Raises:
        OSError: neither can be used.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(root, os.W_OK) and shutil.disk_usage(root).free > ROOM:
            return root
    except OSError:
        pass
    private = Path(tempfile.gettempdir(), f"mlxt-{os.getuid()}")
    private.mkdir(mode=0o700, exist_ok=True)
    stat = private.lstat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o077:
        raise OSError(f"{root} can't be written to, and {private} belongs to somebody else")
    return private / "jit"


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
    """The processor's name and instruction sets, as the kernel reports them."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return os.uname().machine
    keys = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
    return "\n".join(line for line in first.splitlines() if line.startswith(keys))


def _is_wrapper(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(512)


def _script(compiler: str, flags: str) -> str:
    return SCRIPT.format(
        mark=MARK,
        compiler=shlex.quote(compiler),
        rewrite=shlex.quote(REWRITE),
        flags=flags,
        header=HEADER,
        precompile=PRECOMPILE,
        epoch=EPOCH,
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
