"""A local page that follows runs while they train, from their log files alone.

Nothing of a run is opened for writing, and no process of it is asked: a run that is stopped,
resumed or finished is followed all the same.
"""

import json
import time
import tomllib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import FormatError, RunError
from ..core.parse import parse_toml
from ..runs.folder import LogWarning, RunFolder, check_root, find
from ..trainer.metrics import COUNTS, metric_title
from .scripted import HERE, ScriptedPage, asset

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NEWEST = 8
"""Runs that are followed where none is named."""
POINTS = 300
"""Points of a curve."""
GROUPS = {
    "Learning rate": ("learning_rate",),
    "Gradient norm": ("grad_norm",),
    "Tokens per second": ("tokens_per_s", "rollout_tokens_per_s"),
    "MFU": ("mfu",),
    "Memory, GiB": ("peak_gib", "process_gib", "active_gib"),
}
"""Curves that belong together; each other metric is with its validation."""
LEFT_OUT = COUNTS | {
    *("step", "tokens", "seconds", "seconds_total", "skipped"),
    *("loader_tokens_per_s", "cache_gib", "swap_growth_gib"),
}
"""Numbers of a record that have no curve."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing, and talks to this server alone."""


@dataclass
class Watched:
    """Runs, by name or the newest ones, and what was read of each log the last time."""

    names: Sequence[str]
    root: Path
    _read: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = field(default_factory=dict)

    def snapshot(self) -> dict[str, Any]:
        """Read the runs: `runs`, a table for each, and `version`, which changes with the logs."""
        folders = self.folders()
        marks = [_mark(folder) for folder in folders]
        runs = []
        for folder, mark in zip(folders, marks, strict=True):
            cached = self._read.get(folder.path)
            if cached is None or cached[0] != mark:
                cached = self._read[folder.path] = (mark, summary(folder))
            age = time.time() - mark[0] / 1e9 if mark[1] else None
            runs.append(cached[1] | {"age": age})
        return {"runs": runs, "version": str(hash((*marks, *(f.name for f in folders))))}

    def folders(self) -> list[RunFolder]:
        """The folders of the runs that are followed.

        Raises:
            RunError: a run that was named doesn't exist.
        """
        if self.names:
            return [find(name, self.root) for name in self.names]
        run_folders = [
            RunFolder(path.parent)
            for path in (self.root.glob("*/recipe.toml") if self.root.is_dir() else ())
        ]
        return sorted(run_folders, key=_mark, reverse=True)[:NEWEST]


def _mark(folder: RunFolder) -> tuple[int, int]:
    """Time and size of a run's log; zeros where there is none yet."""
    try:
        stat = folder.log.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def summary(folder: RunFolder) -> dict[str, Any]:
    """The curves, the last lists of layers, samples and warnings of a run."""
    records = _records(folder)
    curves: dict[str, list[tuple[int, float]]] = {}
    last: dict[str, Any] = {}
    for record in records:
        for key, value in record.items():
            last[key] = value if value is not None else last.get(key)
            if isinstance(value, int | float) and key not in LEFT_OUT and "/" not in key:
                curves.setdefault(key, []).append((record["step"], value))
    layers: dict[str, dict[str, list[float]]] = {}
    for key, value in last.items():
        name, slash, layer = key.rpartition("/")
        if slash and isinstance(value, list):
            layers.setdefault(metric_title(name), {})[layer] = value
    return {
        "name": folder.name,
        "step": max((r["step"] for r in records), default=0),
        "steps": _steps(folder),
        "last": {k: v for k, v in last.items() if isinstance(v, int | float)},
        "figures": _figures({key: _thinned(points) for key, points in curves.items()}),
        "layers": layers,
        "sample": str(last.get("sample", "")),
        "warning": str(last.get("warning", "")),
    }


def _records(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a log that may be written, or replaced, at this moment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LogWarning)  # half a line
        try:
            return folder.records()
        except OSError:
            return []


def _figures(curves: dict[str, list[tuple[int, float]]]) -> dict[str, dict[str, Any]]:
    """Curves by figure, then by title."""
    figures: dict[str, dict[str, Any]] = {}
    grouped = {key: group for group, keys in GROUPS.items() for key in keys}
    for key, points in curves.items():
        name = key.removeprefix("val_").removeprefix("train_")
        figure = grouped.get(key, metric_title(name).capitalize())
        kind = "validation" if key.startswith("val_") else "training"
        title = metric_title(key.removesuffix("_gib")) if key in grouped else kind
        figures.setdefault(figure, {})[title] = points
    order = [*(f for f in figures if f not in GROUPS), *(f for f in GROUPS if f in figures)]
    return {figure: figures[figure] for figure in order}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about POINTS of the points, the last one among them."""
    every = -(-len(points) // POINTS)
    return points[::-1][::every][::-1]


def _steps(folder: RunFolder) -> int | None:
    """The steps that the run's recipe asks for, if it can be read."""
    try:
        recipe = parse_toml(folder.recipe.read_text(encoding="utf-8"), "recipe.toml")
    except (OSError, ValueError, FormatError, tomllib.TOMLDecodeError):
        return None
    train = recipe.get("train")
    steps = train.get("steps") if isinstance(train, dict) else None
    return steps if isinstance(steps, int) else None


def page() -> str:
    """The page, which asks the server for the rest."""
    document = ScriptedPage(
        "mlxt watch",
        '<span id="state" class="soft" role="status">Reading the logs ...</span>',
        style=asset(HERE / "watch.css"),
        scripts=asset(HERE / "watch.js"),
        data={"every": 2000},
    )
    document.add("runs", "Runs", '<div id="at-runs"></div>')
    document.add("curves", "Curves", '<div id="at-curves" class="figures"></div>')
    document.add("layers", "Experts and layers", '<div id="at-layers"></div>')
    document.add("samples", "Samples", '<div id="at-samples"></div>')
    return document.html()


class Handler(BaseHTTPRequestHandler):
    """Answers `/` with the page and `/data` with the runs, to this machine alone."""

    server_version = "mlxt"
    sys_version = ""

    def __init__(self, watched: Watched, *given: Any) -> None:
        self.watched = watched
        super().__init__(*given)

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            place = urlsplit(self.path).path
        except ValueError:  # a bracket that isn't closed
            host = place = None
        if host not in LOOPBACK:
            return self._answer(403, "text/plain", "This page is for this machine alone.")
        if place == "/":
            return self._answer(200, "text/html", page())
        if place != "/data":
            return self._answer(404, "text/plain", "There is / and /data.")
        try:
            state = self.watched.snapshot()
        except RunError as error:
            return self._answer(200, "application/json", json.dumps({"error": str(error)}))
        return self._answer(200, "application/json", json.dumps(state, ensure_ascii=False))

    def _answer(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", errors="backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with suppress(ConnectionError):  # the page was closed
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal quiet."""


def open_server(names: Sequence[str], root: Path, port: int) -> ThreadingHTTPServer:
    """Open the server on a port of the loopback address; 0 takes a free one.

    Raises:
        RunError: a run that was named doesn't exist, `root` is no folder, or the port is taken.
    """
    check_root(root)
    watched = Watched(names, root)
    watched.folders()
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, watched))
    except OSError as error:
        raise RunError(
            f"Port {port} can't be opened: {error.strerror}. Take another --port; 0 takes a free "
            "one."
        ) from error
