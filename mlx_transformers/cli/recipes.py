"""`mlxt recipes`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson
from .terminal import print_table

if TYPE_CHECKING:
    from ..recipe.catalogue import Listed

DETAILED = 12
"""Number of recipes up to which parameters and papers are shown too."""


def recipes(
    word: Annotated[
        str | None,
        typer.Argument(
            help="Only recipes whose name, folder, description or paper contains this.",
            metavar="WORD",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List recipes: what each changes in its parent, its paper, its year, its parameters."""
    from ..core.errors import RecipeError, unknown
    from ..recipe.catalogue import listed, names

    matches = listed(word)
    if not matches:
        raise RecipeError(unknown("recipe", word or "", names()))
    if as_json:
        tables = [asdict(recipe) | {"path": str(recipe.path)} for recipe in matches]
        print(json.dumps(tables, indent=2, ensure_ascii=False))
    elif len(matches) > DETAILED:
        rows = [(r.name, r.extends or "", str(r.year or ""), _first(r.what)) for r in matches]
        print_table(("recipe", "extends", "year", "what"), rows)
        print(f"\n{len(matches)} recipes. Papers and sizes: mlxt recipes WORD")
    else:
        for recipe in matches:
            _print(recipe)


def _first(what: str) -> str:
    """The first sentence of a description, or its part before a colon."""
    return what.split(". ")[0].rstrip(".")


def _print(recipe: "Listed") -> None:
    from .terminal import console

    parent = f", extends {recipe.extends}" if recipe.extends else ""
    lines = [f"{recipe.name}  ({_size(recipe)}{parent})", f"  {recipe.what}"]
    lines += [f"  {recipe.paper}"] if recipe.paper else []
    for line in [*lines, f"  {recipe.path}", ""]:
        console().print(line, soft_wrap=True)


def _size(recipe: "Listed") -> str:
    """The number of parameters, which depends on the text where that decides the vocabulary."""
    from ..assembly.model import draft_model, recipe_vocab_size
    from ..assembly.recipe import load_recipe
    from ..core.errors import MlxtError
    from ..layers.counts import count

    try:
        loaded = load_recipe(recipe.path)
        counts = count(draft_model(loaded))
    except MlxtError:
        return "incomplete by itself"
    about = "" if recipe_vocab_size(loaded) is not None else "about "
    active = "" if counts.active == counts.total else f", {counts.active / 1e6:.2f} M active"
    return f"{about}{counts.total / 1e6:.2f} M parameters{active}"
