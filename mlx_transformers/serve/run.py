"""Runs the application: a port of this machine, and an orderly end."""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from starlette.routing import Route

from ..core.errors import RunError
from .app import LOOPBACK, Limits, Opened, application
from .worker import Worker

Pages = Callable[[Worker[Opened]], list[Route]]


def serve(
    load: Callable[[], Opened],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    pages: Pages = lambda worker: [],
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a model until Ctrl-C.

    Args:
        load: opens the model; called once the port is known to be free.
        host: the address to listen on; by default this machine alone can connect.
        port: its port; 0 takes a free one.
        limits: what a client may ask for.
        pages: makes further routes.
        ready: called with the address once the model is loaded.

    Raises:
        RunError: the port is in use, or the address isn't this machine's.
        MlxtError: as `load`.
    """
    limits = limits or Limits()
    with contextlib.closing(bound(host, port)) as listening:
        name = f"[{host}]" if ":" in host else host
        worker = Worker(load, limits.waiting)
        hosts = LOOPBACK if is_loopback(host) else ("*",)
        app = application(worker, limits, hosts=hosts, more=pages(worker))
        ready(f"http://{name}:{listening.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            if not worker.close():
                _leave()


def _leave() -> None:
    """End the process although the model computes, as Ctrl-C ends a program: nothing is unsaved,
    since the choices of the page are on disk before they are answered."""
    print("Leaving while the model computes a step.", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        RunError: the port is in use, or the address isn't this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise RunError(
            f"Can't listen on port {port} of {host}: {error.strerror or error}. Choose another "
            "with --port; 0 takes a free one."
        ) from None
    return listening


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
