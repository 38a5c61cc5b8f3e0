"""`mlxt eval`."""

import json
from typing import Annotated

import typer


def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="A run or checkpoint; the newest run if left out.")
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Batches to measure on; all if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a run on its validation split: loss, perplexity, bits per byte."""
    from ..session import evaluate as measure

    checkpoint, values = measure(run, batches)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **values}))
        return
    print(f"{checkpoint}")
    print(f"  loss          {values['val_loss']:.4f} nats per token")
    print(f"  perplexity    {values['val_ppl']:.2f}")
    print(f"  bits per byte {values['val_bpb']:.4f}")
    print(f"  measured on   {values['val_tokens']:,.0f} tokens")
