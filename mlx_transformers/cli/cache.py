"""`mlxt cache` and `mlxt cache clean`."""

import json
from typing import Annotated

import typer

from .options import AsJson
from .terminal import print_table
from .usage import Verbs

app = typer.Typer(
    cls=Verbs,
    help="Show or clean the cache: prepared data, compiled kernels, downloads.",
    invoke_without_command=True,
)


@app.callback()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show where the cache is and how much disk each part of it takes."""
    if context.invoked_subcommand is not None:
        return
    from ..core.cache import cache_folder
    from ..verbs.cache import usage

    parts_used = usage()
    if as_json:
        parts = {u.part.name: {"bytes": u.bytes, "files": u.files} for u in parts_used}
        print(json.dumps({"folder": str(cache_folder()), "parts": parts}, indent=2))
        return
    print_table(
        ("part", "MB", "files", ""),
        [(u.part.name, f"{u.bytes / 1e6:,.1f}", f"{u.files:,}", u.part.what) for u in parts_used],
        right=(1, 2),
    )
    print(f"\nIn {cache_folder()}; MLXT_CACHE moves it. Free space: mlxt cache clean")


@app.command()
def clean(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parts to delete: data, kernels, downloads, tokenizers, plans. Default: the first "
            "three, which are made again when needed.",
            metavar="PART",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete parts of the cache. Runs and their checkpoints are never touched."""
    from ..core.cache import cache_folder
    from ..verbs.cache import chosen
    from ..verbs.cache import clean as run

    chosen(parts or ())  # an unknown name is said before the question
    what = ", ".join(parts) if parts else "data, kernels and downloads"
    if not yes:
        typer.confirm(f"Delete {what} in {cache_folder()}?", abort=True)
    freed, busy = run(parts or ())
    print(f"Freed {freed / 1e6:,.1f} MB.")
    for path in busy:
        print(f"Kept {path}: another process is preparing it.")
