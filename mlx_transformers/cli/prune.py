"""`mlxt prune`."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.paths import command_line
from .options import Calibrate, ModelSource, Runs

Name = Annotated[
    str | None,
    typer.Option(help="The new run's name.", metavar="NAME", show_default="SRC-pruned"),
]
Method = Annotated[
    str,
    typer.Option(
        help="How single weights are chosen: magnitude (per layer), magnitude_global, wanda or "
        "sparsegpt.",
        metavar="METHOD",
    ),
]
Sparsity = Annotated[
    float | None,
    typer.Option(help="Share of the weights to set to 0.", metavar="S", show_default=False),
]
NofM = Annotated[
    str | None,
    typer.Option(help="Keep N of every M inputs, as in 2:4.", metavar="N:M", show_default=False),
]
Heads = Annotated[
    int | None,
    typer.Option(
        help="Heads with keys of their own that stay in each layer.",
        metavar="N",
        show_default="all",
    ),
]
Hidden = Annotated[
    int | None,
    typer.Option(help="Hidden features that stay in each ffn.", metavar="N", show_default="all"),
]
Dim = Annotated[
    int | None,
    typer.Option(
        help="Channels of the residual stream that stay (model.dim).",
        metavar="N",
        show_default="all",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Layers that stay, by their influence (6), or the numbers of those that go (3,5).",
        metavar="N|N,N",
        show_default="all",
    ),
]
Rewind = Annotated[
    int | None,
    typer.Option(
        help="Give the weights that remain the values of the source's checkpoint of this step, to "
        "train from there (lottery ticket).",
        metavar="STEP",
        show_default=False,
    ),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Write the run even if it is far from its source.")
]


def prune(
    source: ModelSource,
    name: Name = None,
    method: Method = "magnitude",
    sparsity: Sparsity = None,
    n_of_m: NofM = None,
    heads: Heads = None,
    hidden: Hidden = None,
    dim: Dim = None,
    layers: Layers = None,
    calibrate: Calibrate = None,
    rewind: Rewind = None,
    anyway: Anyway = False,
    runs: Runs = Path("runs"),
) -> None:
    """Take weights out of a model, as a new run: single ones, or heads, hidden features, channels,
    layers.

    The result is compared with its source on text that calibration didn't read: KL divergence,
    changed tokens, perplexity.
    """
    from ..verbs.prune import Settings, prune

    settings = Settings(
        method, sparsity, n_of_m, heads, hidden, dim, layers, calibrate, rewind, anyway
    )
    folder, _ = prune(source, settings, name=name, root=runs)
    command = command_line("finetune", folder.path, folder.recipe, "--name", "NAME")
    print(f"{folder.path}: written. Train it further: {command}")
