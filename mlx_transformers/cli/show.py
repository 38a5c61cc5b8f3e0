"""`mlxt show`."""

import json
from typing import Annotated, Any

import typer

from ..core.terminal import is_terminal
from .completion import recipe_names
from .options import AsJson, Recipe, Sets
from .terminal import console, print_table


def show(
    recipe: Recipe,
    other: Annotated[
        str | None,
        typer.Argument(
            help="A second recipe: show where the two differ.",
            metavar="OTHER",
            show_default=False,
            autocompletion=recipe_names,
        ),
    ] = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Show the assembled model with shapes and sources.")
    ] = False,
    set: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Show a recipe: its keys and the files that set them, a difference, or the model."""
    from ..assembly.recipe import load_recipe

    if modules and (other is not None or as_json):
        raise typer.BadParameter("--modules shows one recipe, as text.")
    loaded = load_recipe(recipe, set or [])
    if modules:
        _modules(loaded)
    elif other is not None:
        _difference(recipe, loaded, other, load_recipe(other, set or []), as_json)
    else:
        _keys(loaded, as_json)


def _keys(loaded: Any, as_json: bool) -> None:
    from ..recipe.show import DEFAULT
    from ..recipe.show import show as rows_of

    keys = rows_of(loaded.resolved, loaded)
    if as_json:
        _print_json(("key", "value", "set by"), keys)
        return
    links = [link if isinstance(link, str) else link.name for link in loaded.resolved.chain]
    console().print(" → ".join(links) + "\n", soft_wrap=not is_terminal())
    own_file = keys[-1][2] if len(links) == 1 else links[-1]
    styles = [
        "dim" if where == DEFAULT else "bold" if where == own_file else "" for *_, where in keys
    ]
    tops = [path.split(".")[0] for path, *_ in keys]
    gaps = [i for i in range(1, len(tops)) if tops[i] != tops[i - 1]]
    rows = [(path, _plain(value), where) for path, value, where in keys]
    print_table(("key", "value", "set by"), rows, styles=styles, gaps=gaps)


def _difference(name: str, loaded: Any, other: str, against: Any, as_json: bool) -> None:
    from ..recipe.show import diff

    differences = diff(loaded, against)
    if as_json:
        _print_json(("key", name, other), differences)
    elif not differences:
        print(f"{name} and {other} have the same keys and values.")
    else:
        print_table(
            ("key", name, other), [(path, _plain(a), _plain(b)) for path, a, b in differences]
        )


def _modules(loaded: Any) -> None:
    from ..report.modules import module_tree

    screen = console()
    tree = module_tree(loaded, screen.width if is_terminal() else None)
    screen.print(tree, soft_wrap=True)


def _plain(value: object) -> str:
    from ..recipe.toml import toml_value

    return "none" if value is None else toml_value(value)


def _print_json(titles: tuple[str, str, str], rows: list[tuple[str, Any, Any]]) -> None:
    print(json.dumps([dict(zip(titles, row, strict=True)) for row in rows], indent=2))
