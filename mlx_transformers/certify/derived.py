"""Rows about a run that was made of another one: quantized, pruned, or fused."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ..assembly.saved import load
from ..compress.fidelity import FAITHFUL, LOSSY, compare
from ..core.errors import MlxtError
from ..core.parse import read_table
from ..verbs.gate import rows_for
from .row import DoesNotApply, Measured, Row
from .subject import Subject, eager

LOSSY_CHANGES = {"quantized": "quantizing", "pruned": "pruning"}
"""Keys of environment.json that say how a run was made, and the change that they stand for."""
FAITHFUL_CHANGES = {"merged": "fusing"}


def near_source(subject: Subject, changes: Mapping[str, str]) -> Measured:
    """Compare a run with the one that it was made of, on held-out text."""
    environment = read_table(subject.folder.path / "environment.json")
    if not any(key in environment for key in changes):
        raise DoesNotApply(f"The run was not made by {' or '.join(changes.values())} another one.")
    source = environment.get("source", environment.get("merged"))
    if source is None or not Path(source).exists():
        raise DoesNotApply(f"Its source, {source}, is not there any more.")
    try:
        before, tokenizer = load(source)
    except MlxtError as error:
        raise DoesNotApply(f"Its source can't be opened: {error}") from None
    model, _ = load(subject.checkpoint)
    rows, text = rows_for(subject.recipe, tokenizer, model)
    with eager():
        difference = compare(before, model, rows, text=text)
    return Measured(difference.kl, difference.line())


FIGURE = "KL divergence, nats per token"

DERIVED = (
    Row(
        "quantized or pruned = source",
        "A quantized or pruned run predicts nearly what the run that it was made of predicts.",
        FIGURE,
        LOSSY.kl,
        partial(near_source, changes=LOSSY_CHANGES),
    ),
    Row(
        "fused = source",
        "A run with merged adapters predicts what the run with adapters predicts.",
        FIGURE,
        FAITHFUL.kl,
        partial(near_source, changes=FAITHFUL_CHANGES),
    ),
)
"""Rows about derived runs."""
