"""Watches one process of a job, from a process of its own: heartbeats, without MLX and its locks.

    python -ES watcher.py RANK LIMIT serve ADDRESS WORLD TOKEN
    python -ES watcher.py RANK LIMIT connect ADDRESS PORT TOKEN

Rank 0's watcher serves, and prints its port; those of the other ranks connect to it. Both sides
send a heartbeat every second, but not while the process that they watch is stopped. When a rank has
been silent, or gone, for LIMIT seconds, the watcher names it and kills its own process, which can't
notice: MLX waits for other ranks indefinitely, and ignores signals meanwhile. A byte on stdin is a
signal that the process received; after one, 5 s of silence are enough. The end of stdin ends the
watcher.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

BEAT = 1.0
HURRY = 5.0
CONNECT = 15.0
STDIN = 0


class Peer:
    """Another rank: its connection, and when it was last heard."""

    def __init__(self, rank: int, connection: socket.socket) -> None:
        self.rank = rank
        self.connection = connection
        self.heard = time.monotonic()
        self.gone = False

    def receive(self) -> None:
        """Take what has arrived."""
        try:
            data = self.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.heard = time.monotonic()
        else:
            self.gone = True  # silent from now on; MLX usually notices first

    def send(self) -> None:
        """Send a heartbeat."""
        with suppress(OSError):
            self.connection.send(b".")


def stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except OSError:
        argv = ["ps", "-o", "state=", "-p", str(pid)]  # macOS
        state = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    return state[:1] in ("T", "t")


def serve(address: str, world: int, token: str) -> list[Peer]:
    """Print the port, and accept the other ranks; those that can't connect are not watched."""
    try:
        server = socket.create_server((address, 0))
    except OSError:
        return []  # the address is another one inside this machine
    print(server.getsockname()[1], flush=True)
    peers: list[Peer] = []
    deadline = time.monotonic() + CONNECT
    while len(peers) < world - 1 and (remaining := deadline - time.monotonic()) > 0:
        server.settimeout(remaining)
        try:
            connection, _ = server.accept()
            connection.settimeout(2.0)
            fields = connection.recv(256).decode().split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(fields) == 2 and fields[0] == token and fields[1].isdigit():
            peers.append(Peer(int(fields[1]), connection))
    return peers


def connect(address: str, port: int, token: str, rank: int) -> list[Peer]:
    """Connect to rank 0; without a connection there is nothing to watch."""
    try:
        connection = socket.create_connection((address, port), CONNECT)
        connection.send(f"{token} {rank}\n".encode())
    except OSError:
        return []
    return [Peer(0, connection)]


def watch(rank: int, limit: float, peers: list[Peer], parent: int) -> None:
    """Exchange heartbeats until stdin ends; kill the parent when a peer is silent too long."""
    for peer in peers:
        peer.connection.setblocking(False)
    hurry, beat, before = False, 0.0, time.monotonic()
    while os.getppid() == parent:
        live: list[Any] = [peer.connection for peer in peers if not peer.gone]
        ready = select.select([STDIN, *live], [], [], BEAT / 4)[0]
        if STDIN in ready:
            if not os.read(STDIN, 64):
                return
            hurry = True
        now = time.monotonic()
        if now - before > limit / 2:  # this process itself was stopped
            for peer in peers:
                peer.heard = now
        before = now
        for peer in peers:
            if peer.connection in ready:
                peer.receive()
        if now - beat > BEAT:
            beat = now
            if not stopped(parent):
                for peer in peers:
                    peer.send()
            elif not hurry:
                for peer in peers:
                    peer.heard = now  # a stopped process blames nobody
        silent = [p for p in peers if now - p.heard > (min(limit, HURRY) if hurry else limit)]
        if silent:
            end(rank, silent[0], now - silent[0].heard, parent)


def end(rank: int, peer: Peer, seconds: float, parent: int) -> None:
    """Say which rank is silent, and kill the parent."""
    what = "has ended" if peer.gone else "is stopped or can't be reached"
    print(
        f"error: Rank {peer.rank} {what}: nothing was heard of it for {seconds:.0f} s, so rank "
        f"{rank} ends too. Checkpoints saved before are intact: start all processes again with "
        "--resume auto.",
        file=sys.stderr,
        flush=True,
    )
    os.kill(parent, signal.SIGKILL)
    sys.exit(1)


def main() -> None:
    """Parse the command line, connect, and watch the parent."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # meant for the process that is watched
    parent = os.getppid()
    rank, limit, role, address, number, token = sys.argv[1:]
    if role == "serve":
        peers = serve(address, int(number), token)
    else:
        peers = connect(address, int(number), token, int(rank))
    if peers:
        watch(int(rank), float(limit), peers, parent)


if __name__ == "__main__":
    main()
