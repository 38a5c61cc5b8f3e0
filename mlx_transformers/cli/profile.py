"""`mlxt profile`."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .completion import set_keys
from .options import UNMEASURED, AsJson, Recipe, Sets, check_free, note_unread, user_path
from .preparing import watch
from .terminal import print_table

Capture = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Record one step on the GPU for Xcode (Metal).",
        metavar="FILE",
        show_default=False,
    ),
]
Page = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Write an HTML page.",
        metavar="FILE",
        show_default="none; of a sweep runs/sweep-RECIPE.html",
    ),
]


def profile(
    recipe: Recipe,
    set: Sets = None,
    steps: Annotated[
        int, typer.Option(min=2, help="Steps of the loop to time, after compilation.", metavar="N")
    ] = 20,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=V,V",
            help="Measure each of these values, as in --sweep train.batch_size=1,2,4; "
            "repeatable for a grid.",
            show_default=False,
            autocompletion=set_keys,
        ),
    ] = None,
    capture: Capture = None,
    out: Page = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a recipe trains and decodes on this machine, and where the time goes."""
    if sweep and capture:
        raise typer.BadParameter("--capture records one recipe, not a sweep.")
    if out is not None:
        from ..report.profiles import check_page

        check_page(out)
    if sweep:
        _sweep(recipe, set or [], sweep, steps, out, as_json)
        return
    from ..assembly.build import build
    from ..assembly.recipe import load_recipe
    from ..data.prepare import prepare
    from ..profile.measure import measure

    loaded = load_recipe(recipe, set or [])
    note_unread(set, unread=UNMEASURED)
    with watch() as screen:
        built = build(loaded, prepare(loaded.data, progress=screen))
        result = measure(built, steps, capture_to=capture, say=_say)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
    else:
        _print(result)
    if out is not None:
        from ..report.profiles import write_profile

        _say(f"Written: {write_profile(result, _command(), out)}")


def _print(result: Any) -> None:
    from ..report import profiles as rows

    print_table(("", ""), rows.speed_rows(result))
    for titles, table in (
        (rows.PART_TITLES, rows.part_rows(result)),
        (rows.BLOCK_TITLES, rows.block_rows(result)),
        (rows.DECODE_TITLES, rows.decode_rows(result)),
    ):
        if table:
            print()
            n_texts = 2 if titles == rows.BLOCK_TITLES else 1
            right = range(0 if titles == rows.DECODE_TITLES else n_texts, len(titles))
            print_table(titles, table, right=right)


def _sweep(
    recipe: str, sets: list[str], texts: list[str], steps: int, out: Path | None, as_json: bool
) -> None:
    from ..core.errors import RunError
    from ..profile.sweep import best, parse_axes, sweep
    from ..report.profiles import sweep_rows, write_sweep
    from ..runs.folder import RUNS

    axes = parse_axes(texts)
    check_free(sets, {axis.key: "--sweep" for axis in axes})
    note_unread(sets, unread=UNMEASURED)
    cells = sweep(recipe, sets, axes, steps, _say)
    if as_json:
        print(json.dumps({"best": best(cells), "cells": [asdict(c) for c in cells]}, indent=2))
    else:
        titles, rows = sweep_rows(axes, cells)
        print_table(titles, rows, right=range(len(titles) - 1))
    name = Path(recipe).stem
    try:
        page = write_sweep(name, axes, cells, _command(), out or RUNS / f"sweep-{name}.html")
        _say(f"Written: {page}")
    except RunError as error:
        if out is not None:
            raise
        _say(f"Without a page: {error}")
    if best(cells) is None:
        raise typer.Exit(1)


def _command() -> str:
    return shlex.join(["mlxt", *sys.argv[1:]])


def _say(text: str) -> None:
    """Print progress to standard error, apart from the result, which may be JSON."""
    print(text, file=sys.stderr, flush=True)
