"""`mlxt grow`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..core.paths import command_line
from .options import Runs
from .upcycle import Anyway, Run

Name = Annotated[
    str | None,
    typer.Option(help="The new run's name.", metavar="NAME", show_default="RUN-grown"),
]
Layers = Annotated[
    int | None, typer.Option(help="Layers of the new model.", metavar="L", show_default=False)
]
HiddenDim = Annotated[
    int | None, typer.Option(help="Width of its ffns.", metavar="F", show_default=False)
]
Method = Annotated[
    Literal["identity", "stack", "interpolate"],
    typer.Option(help="New layers: copies that add nothing yet, a stack of stacks, or twins."),
]


def grow(
    run: Run,
    layers: Layers = None,
    hidden_dim: HiddenDim = None,
    method: Method = "identity",
    name: Name = None,
    anyway: Anyway = False,
    runs: Runs = Path("runs"),
) -> None:
    """Make a deeper or wider model from a smaller run, and compare the two."""
    from ..verbs.grow import Growth
    from ..verbs.grow import grow as make

    growth = Growth(layers, hidden_dim, method, anyway=anyway)
    folder, _ = make(run, growth, name=name, root=runs)
    print(f"{folder.path} is written.")
    command = command_line("finetune", folder.path, folder.recipe, "--name", "NAME")
    print(f"Train it further: {command}")
