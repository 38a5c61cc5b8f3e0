"""`mlxt eval`."""

import json
from typing import Annotated

import typer

from .options import AsJson
from .preparing import watch


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run's name or folder, or one of its checkpoints.",
            metavar="RUN",
            show_default="the newest run in ./runs",
        ),
    ] = None,
    batches: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches to measure on, spread evenly.",
            metavar="N",
            show_default="the whole split",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run on its validation split: loss, perplexity, bits per byte."""
    from ..session import evaluate as measure

    with watch() as progress:
        checkpoint, values = measure(run, batches, progress=progress)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **values}))
        return
    print(f"{checkpoint}")
    print(f"  loss          {values['val_loss']:.4f} nats per token")
    print(f"  perplexity    {values['val_ppl']:.2f}")
    if "val_bpb" in values:
        print(f"  bits per byte {values['val_bpb']:.4f}")
    known = {"val_loss", "val_ppl", "val_bpb", "val_tokens"}
    for name in (name for name in values if name not in known):
        print(f"  {name.removeprefix('val_'):<13} {values[name]:.4f}")
    print(f"  measured on   {values['val_tokens']:,.0f} tokens")
