"""Completion in a shell: names of recipes and runs, and keys of --set.

Nothing here raises: a shell would print the error into the line that is typed.
"""

from pathlib import Path

import typer

from ..core.errors import MlxtError


def recipe_names(incomplete: str) -> list[str]:
    """Names of recipes in ./recipes and of the project."""
    from ..recipe.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of runs below the folder of runs, those of ladders included."""
    root = Path(ctx.params.get("runs") or "runs")
    try:
        recipes = (*root.glob("*/recipe.toml"), *root.glob("*/*/recipe.toml"))
        names = sorted(path.parent.relative_to(root).as_posix() for path in recipes)
    except OSError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def recipe_or_run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of recipes, and of runs."""
    return [*recipe_names(incomplete), *run_names(ctx, incomplete)]


def resumable(ctx: typer.Context, incomplete: str) -> list[str]:
    """Values of --resume: "auto", and runs by their folders."""
    root = ctx.params.get("runs") or Path("runs")
    folders = [str(Path(root) / name) for name in run_names(ctx, "")]
    return [value for value in ("auto", *folders) if value.startswith(incomplete)]


def set_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the recipe that the command names, defaults included, and those of every recipe."""
    from ..assembly.recipe import Recipe, load_recipe
    from ..recipe.keys import fixed_keys
    from ..recipe.show import show

    if "=" in incomplete:
        return []
    keys = fixed_keys(Recipe)
    # An option that still lacks its value leaves the arguments before it unparsed, in ctx.args.
    for argument in ctx.args:
        try:
            recipe = load_recipe(argument)
            assert recipe.resolved is not None
            keys += [key for key, _, _ in show(recipe.resolved, recipe)]
        except MlxtError:
            continue
    found = [f"{key}=" for key in sorted(set(keys)) if key.startswith(incomplete)]
    # A shell puts a space behind the only answer, where the value has to follow.
    return [*found, f"{found[0]}VALUE"] if len(found) == 1 else found


def tool_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the table [tools]."""
    return [key for key in set_keys(ctx, incomplete) if key.startswith("tools.")]
