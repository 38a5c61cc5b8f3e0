"""`mlxt train`."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="A recipe: a TOML file, or its name in recipes/.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one key of the recipe; repeatable."),
]


def train(
    recipe: Recipe,
    set: Sets = None,
    name: Annotated[str | None, typer.Option(help="The run's name below runs/.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="'auto' to continue the run of that name, or a run's folder."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Same as --set train.steps=N.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Same as --set train.batch_size=N.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Same as --set optim.learning_rate=X.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same as --set train.seed=N.")] = None,
    runs: Annotated[Path, typer.Option(help="The folder of runs.")] = Path("runs"),
) -> None:
    """Train a recipe: mlxt train recipes/mistral_tiny.toml"""
    from ..build import load_recipe
    from ..recipe.overrides import alias
    from ..session import train as run

    short = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    given = [alias(key, value) for key, value in short.items() if value is not None]
    loaded = load_recipe(recipe, [*(set or []), *given])
    result = run(loaded, name=name, resume=resume, root=runs)
    print(f'Continue with: mlxt generate --run {result.folder.path} --prompt "..."')
