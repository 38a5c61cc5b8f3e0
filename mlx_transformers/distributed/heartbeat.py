"""Heartbeats between the processes of a job: a silent one ends the others with a sentence."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import RunError
from .processes import Ranks

WATCHER = Path(__file__).with_name("watcher.py")

LIMIT_SECONDS = 20.0
"""Silence of a rank that ends the others; $MLXT_HEARTBEAT_SECONDS overrides it, 0 turns it off."""


@contextmanager
def heartbeat(ranks: Ranks) -> Iterator[None]:
    """Watch the other processes of a job inside the block.

    A watcher in a process of its own exchanges heartbeats over a TCP connection to rank 0. If a
    rank is stopped, or its machine can't be reached, the watchers of the others name it on stderr
    and kill their process. Ranks between which no connection can be made are not watched.
    """
    limit = seconds_of("MLXT_HEARTBEAT_SECONDS", LIMIT_SECONDS)
    if ranks.processes == 1 or not limit:
        yield
        return
    watcher = _start(ranks, limit)
    stdin = watcher.stdin
    assert stdin is not None
    os.set_blocking(stdin.fileno(), False)
    try:
        previous = signal.set_wakeup_fd(stdin.fileno(), warn_on_full_buffer=False)
    except ValueError:  # not the main thread: its owner handles signals
        previous = None
    try:
        yield
    finally:
        if previous is not None:
            signal.set_wakeup_fd(previous)
        stdin.close()
        watcher.kill()
        watcher.wait()


def _start(ranks: Ranks, limit: float) -> subprocess.Popen[bytes]:
    """Start the watcher of this rank; rank 0's first, whose address the others need."""
    argv = [sys.executable, "-ES", str(WATCHER), str(ranks.number), str(limit)]
    address_and_token = None
    if ranks.is_main:
        address, token = main_address(), secrets.token_hex(8)
        argv += ["serve", address, str(ranks.processes), token]
        watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert watcher.stdout is not None
        with watcher.stdout:
            port = watcher.stdout.readline().decode().strip()
        address_and_token = [address, port, token]
    address, port, token = ranks.gather(address_and_token)[0]
    if not ranks.is_main:
        argv += ["connect", address, port or "0", token]
        watcher = subprocess.Popen(argv, stdin=subprocess.PIPE)
    return watcher


def main_address() -> str:
    """Return the address at which the other machines reach this one, rank 0."""
    try:
        hosts = json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text(encoding="utf-8"))
        return str(hosts[0][0]).rpartition(":")[0]  # of a ring
    except (KeyError, OSError, ValueError, IndexError, TypeError):
        pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def seconds_of(name: str, default: float) -> float:
    """Return the seconds that an environment variable sets, or the default.

    Raises:
        RunError: the value is not a number of seconds.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 1e9:
        raise RunError(f"${name} is '{text}', which is not a number of seconds. Unset it.")
    return seconds
