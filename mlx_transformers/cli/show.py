"""`mlxt show`."""

import json
from typing import Annotated

import typer


def show(
    recipe: Annotated[str, typer.Argument(help="A recipe.")],
    other: Annotated[
        str | None, typer.Argument(help="A second recipe: show where the two differ.")
    ] = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Show the assembled model with shapes and sources.")
    ] = False,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change one key first; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a recipe: every key and the file that set it; what differs; or the model it builds."""
    from ..build import load_recipe
    from ..recipe.show import diff
    from ..recipe.show import show as rows_of
    from ..recipe.toml import toml_value
    from ..report.modules import module_tree

    def plain(value: object) -> str:
        return "none" if value is None else toml_value(value)

    loaded = load_recipe(recipe, set or [])
    rows: list[tuple[str, str, str]]
    if modules:
        print(module_tree(loaded))
        return
    if other is not None:
        found = diff(loaded, load_recipe(other, set or []))
        rows = [(path, plain(a), plain(b)) for path, a, b in found]
        titles = ("key", recipe, other)
    else:
        assert loaded.resolved is not None
        found = rows_of(loaded.resolved, loaded)
        rows = [(path, plain(value), where) for path, value, where in found]
        titles = ("key", "value", "set by")
    if as_json:
        print(json.dumps([dict(zip(titles, row, strict=True)) for row in found], indent=2))
        return
    _print(titles, rows)


def _print(titles: tuple[str, ...], rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2))
    for title in titles:
        table.add_column(title, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
