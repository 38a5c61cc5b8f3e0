"""`mlxt verify`."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completion import recipe_or_run_names
from .options import AsJson, Runs, Sets
from .terminal import print_table

if TYPE_CHECKING:
    from ..certify.row import Verdict

STYLES = {"holds": "green", "broken": "bold red", "doesn't apply": "dim"}


def verify(
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe, or a run or one of its checkpoints.",
            metavar="RECIPE|RUN",
            show_default=False,
            autocompletion=recipe_or_run_names,
        ),
    ],
    set: Sets = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure only rows whose name contains this text; repeatable.",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Measure on a model what is promised of every model, and print a certificate.

    Each row computes one thing in two ways: accumulated and whole, cached and uncached, resumed and
    uninterrupted. A run keeps the result in certificate.json. The exit code is 1 if a row is
    broken.
    """
    # Chips with matrix units multiply float32 in fewer bits by default; read when MLX is loaded.
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    from ..certify.certificate import certify

    certificate = certify(what, set or [], only=only or [], root=runs, show=_show)
    if as_json:
        print(json.dumps(certificate.to_dict(), indent=2))
    else:
        rows = [
            (
                verdict.name,
                verdict.state,
                _figure(verdict),
                f"{verdict.tolerance:g}",
                verdict.note or verdict.promise,
            )
            for verdict in certificate.verdicts
        ]
        styles = [STYLES[verdict.state] for verdict in certificate.verdicts]
        print_table(("row", "", "worst", "bound", ""), rows, right=(2, 3), styles=styles)
    if not certificate.holds:
        raise typer.Exit(1)


def _show(verdict: "Verdict") -> None:
    print(f"{verdict.name}: {verdict.state} ({verdict.seconds:.1f} s)", file=sys.stderr, flush=True)


def _figure(verdict: "Verdict") -> str:
    if verdict.worst is None:
        return "not a number" if verdict.state == "broken" else ""
    return f"{verdict.worst:.2g}"
