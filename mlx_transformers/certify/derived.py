"""The row about a run that was made of another one: quantized, pruned or fused."""

from pathlib import Path

from ..assembly.saved import load
from ..compress.fidelity import BOUND, compare
from ..core.errors import MlxtError
from ..core.parse import read_table
from ..verbs.text_sample import sample_text
from .row import DoesNotApply, Measured, Row
from .subject import Subject, eager

KINDS = ("quantized", "pruned", "merged")
"""Keys of environment.json that say how a run was made."""


def near_source(subject: Subject) -> Measured:
    """Compare a run with the one that it was made of, on held-out text."""
    environment = read_table(subject.folder.path / "environment.json")
    if not any(kind in environment for kind in KINDS):
        raise DoesNotApply("The run was not made of another one by quantizing, pruning or fusing.")
    source = environment.get("source", environment.get("merged"))
    if source is None or not Path(source).exists():
        raise DoesNotApply(f"Its source, {source}, is not there any more.")
    try:
        before, tokenizer = load(source)
    except MlxtError as error:
        raise DoesNotApply(f"Its source can't be opened: {error}") from None
    model, _ = load(subject.checkpoint)
    context = subject.recipe.model.context() or subject.recipe.train.seq_len
    text = sample_text(None, subject.recipe, tokenizer, model.vocab_size, context)
    with eager():
        found = compare(before, model, text.held_out)
    return Measured(found.kl, found.line())


DERIVED = (
    Row(
        "derived = source",
        "A quantized, pruned or fused run predicts what the run that it was made of predicts.",
        "KL divergence, nats per token",
        BOUND,
        near_source,
    ),
)
"""The row about derived runs."""
