"""How this process was launched, and how it joins the other processes of its job."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from ..core.errors import FormatError, RunError
from ..core.parse import read_json
from .heartbeat import heartbeat, seconds_of
from .processes import SINGLE, DataParallelGroup, Ranks

JOIN_SECONDS = 120.0
"""Seconds to wait for the other processes to start; $MLXT_JOIN_SECONDS overrides it."""

RESTART = "Its checkpoints are intact: start all processes again with --resume auto."

RING = '[["10.0.0.1:5000"], ["10.0.0.2:5000"]]'


def launched() -> str | None:
    """Return the backend with which this process was launched as one of several, or None.

    Raises:
        RunError: MLX_RANK is set without the addresses of the other ranks.
    """
    env = os.environ
    if "MLX_IBV_DEVICES" in env:
        return "jaccl"
    if "NCCL_HOST_IP" in env:
        return "nccl"
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if env.get(name):
            return "mpi" if _whole(name, least=1) > 1 else None
    if "MLX_RANK" not in env:
        return None
    rank, hosts = _whole("MLX_RANK"), Path(env.get("MLX_HOSTFILE", ""))
    if not hosts.is_file():
        raise RunError(
            f"MLX_RANK is {rank}, but MLX_HOSTFILE names no file with the addresses of the other "
            "processes. Start them with mlx.launch, or unset MLX_RANK."
        )
    if not hosts.stat().st_size or not hosts.read_bytes().strip():
        return None  # mlx.launch -n 1 leaves it blank
    _check_ring(hosts, rank)
    return "ring"


def _whole(name: str, least: int = 0) -> int:
    """Return the whole number that an environment variable holds.

    Raises:
        RunError: it holds something else, or less than `least`.
    """
    text = os.environ[name].strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
        raise RunError(
            f"${name} is '{text}', which is not a whole number from {least}. Start the processes "
            f"with mlx.launch or mpirun, or unset {name}."
        )
    return int(text)


def _check_ring(path: Path, rank: int) -> None:
    """Check the addresses of a ring, before MLX reads them.

    Raises:
        RunError: the file is not a list of addresses for each rank, or has none for this rank.
    """
    try:
        hosts = read_json(path)
    except (FormatError, OSError) as error:
        raise RunError(f"$MLX_HOSTFILE can't be read: {error}") from None
    ranks = hosts if isinstance(hosts, list) else []
    good = all(isinstance(addresses, list) and addresses for addresses in ranks) and all(
        isinstance(address, str) and address.rpartition(":")[2].isdigit()
        for addresses in ranks
        for address in addresses
    )
    if not ranks or not good:
        raise RunError(
            f"$MLX_HOSTFILE = {path} is not a list of addresses for each rank, such as {RING}. "
            "mlx.launch writes it; see docs/distributed.md."
        )
    if rank >= len(ranks):
        raise RunError(
            f"MLX_RANK is {rank}, and {path} has addresses of {len(ranks)} ranks, 0 to "
            f"{len(ranks) - 1}."
        )


@contextmanager
def join_job() -> Iterator[Ranks]:
    """Join the job that this process was launched in, and yield its ranks; `SINGLE` alone.

    Raises:
        RunError: the other processes can't be reached, or one of them ended before the block did.
    """
    backend = launched()
    ranks = SINGLE if backend is None else DataParallelGroup(_join(backend))
    try:
        with heartbeat(ranks):
            yield ranks
    except RuntimeError as error:
        if ranks.processes == 1 or f"[{backend}]" not in str(error):
            raise
        raise RunError(
            "Another process of this job has ended, or can't be reached any more, so rank "
            f"{ranks.number} of {ranks.processes} ends too ({error}). The output of the other one "
            f"says why. {RESTART}"
        ) from error


ALARM = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    print(sys.argv[2], file=sys.stderr, flush=True)
    os.kill(os.getppid(), signal.SIGKILL)
"""
"""Kills its parent unless that closes the pipe in time, or has ended."""


def _join(backend: str) -> mx.distributed.Group:
    """Join MLX's group.

    MLX waits indefinitely for a rank that never starts: hence the alarm. Python runs no signal
    handler meanwhile, so signals have their default action, which ends the process.

    Raises:
        RunError: MLX can't join.
    """
    seconds = seconds_of("MLXT_JOIN_SECONDS", JOIN_SECONDS)
    sentence = (
        f"error: Rank {os.environ.get('MLX_RANK', '?')} has waited {seconds:g} s for the other "
        f"processes of this job ({backend}), and gives up. Look at what they printed; on several "
        "machines, check with: mlxt doctor --hosts FILE"
    )
    argv = [sys.executable, "-ES", "-c", ALARM, str(seconds), sentence]
    with subprocess.Popen(argv, stdin=subprocess.PIPE), _default_signals():
        try:
            return mx.distributed.init(strict=True, backend=backend)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"This process can't join the others over {backend}: {error}. Check the hosts: "
                "mlxt doctor --hosts FILE"
            ) from error


@contextmanager
def _default_signals() -> Iterator[None]:
    """Give SIGINT and SIGTERM their default action inside the block."""
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, signal.SIG_DFL)
    except ValueError:
        pass  # not the main thread: its owner handles signals
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
