"""`mlxt upcycle`."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.paths import command_line
from .completion import run_names
from .options import Runs

Run = Annotated[
    str,
    typer.Argument(
        help="A run or checkpoint, or a folder with config.json.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(help="The new run's name.", metavar="NAME", show_default="RUN-ExK"),
]
Normalize = Annotated[
    bool,
    typer.Option(help="Let the gates of a token sum to 1, which keeps the model's output."),
]
Every = Annotated[
    int, typer.Option(min=1, help="Make experts of one layer in so many.", metavar="N")
]
Anyway = Annotated[bool, typer.Option("--anyway", help="Write a result far from its source.")]


def upcycle(
    run: Run,
    experts: Annotated[int, typer.Option(help="Experts of a layer.", metavar="E")],
    top_k: Annotated[int, typer.Option(help="Experts that a token takes.", metavar="K")] = 2,
    name: Name = None,
    normalize: Normalize = True,
    every: Every = 1,
    anyway: Anyway = False,
    runs: Runs = Path("runs"),
) -> None:
    """Make a mixture of experts from a dense run, and compare the two.

    Each expert begins as a copy of the dense ffn.
    """
    from ..verbs.upcycle import Experts
    from ..verbs.upcycle import upcycle as make

    settings = Experts(experts, top_k, normalize, every, anyway)
    folder, _ = make(run, settings, name=name, root=runs)
    print(f"{folder.path}: {experts} experts of a layer, of which a token takes {top_k}.")
    command = command_line("finetune", folder.path, folder.recipe, "--name", "NAME")
    print(f"Train it further: {command}")
