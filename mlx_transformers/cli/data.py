"""`mlxt data list | prepare | inspect`."""

from typing import Annotated

import typer

app = typer.Typer(help="Corpora and prepared data.", no_args_is_help=True)

Recipe = Annotated[str, typer.Argument(help="A recipe, for its [data] table.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one key of the recipe; repeatable."),
]


@app.command("list")
def list_corpora() -> None:
    """List the built-in corpora."""


@app.command()
def prepare(recipe: Recipe, set: Sets = None) -> None:
    """Tokenize a recipe's text into shards."""
    from ..build import load_recipe
    from ..data.prepare import prepare as run

    print(run(load_recipe(recipe, set or []).data).folder)
