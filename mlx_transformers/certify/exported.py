"""Rows about exports: a published folder has the logits of the run that it was written from."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..assembly.saved import load
from ..compress.capture import logits_of
from ..core.context import Context
from ..core.errors import ConvertError
from ..models.model import Model
from ..verbs.export_run import READ_TOKENS, export_run
from ..verbs.import_run import import_run
from .difference import largest_difference
from .row import DoesNotApply, Measured, Row, tokens_of
from .subject import Subject, eager

FIGURE = "difference of the outputs as a share of the largest"
LENGTH = 32
"""Tokens of the rows that are compared."""


def reimported(subject: Subject) -> Measured:
    """Compare a run with its export to transformers, imported again."""
    folder = import_run(
        _exported(subject, "hf"), "again", subject.work / "imported", say=lambda _: None
    )
    with eager():
        live, again = (
            outputs(load(place)[0], subject) for place in (subject.checkpoint, folder.path)
        )
        mx.eval(live, again)
    return Measured(largest_difference(live, again))


def outputs(model: Model, subject: Subject) -> mx.array:
    """The logits of a model for the first tokens of the batch, or its vectors where it has no head
    over the vocabulary.

    Raises:
        DoesNotApply: it reads tokens, and the batch has none.
    """
    if model.tasks & READ_TOKENS:
        tokens_of(subject)
    batch = {
        name: array[:, :LENGTH] if name in ("tokens", "source", "source_valid") else array
        for name, array in subject.batch.items()
    }
    ctx = Context()
    h = model.hidden(model.embedded(batch, ctx), ctx)
    head = model.unembedding()
    return h if head is None else head.logits_upcast(h)


def in_mlx_lm(subject: Subject) -> Measured:
    """Compare a run with its export as mlx-lm computes it."""
    _need("mlx_lm", "mlx-lm")
    model, tokens = _language_model(subject), tokens_of(subject)[:, :LENGTH]
    utils: Any = import_module("mlx_lm.utils")
    theirs, _ = utils.load_model(_exported(subject, "mlx-lm"))
    return Measured(largest_difference(logits_of(model, tokens), theirs(tokens)))


def in_transformers(subject: Subject) -> Measured:
    """Compare a run with its export as transformers computes it."""
    _need("transformers", "transformers")
    _need("torch", "torch")
    model, tokens = _language_model(subject), tokens_of(subject)[:, :LENGTH]
    library, torch = import_module("transformers"), import_module("torch")
    theirs = library.AutoModelForCausalLM.from_pretrained(str(_exported(subject, "hf"))).eval()
    with torch.no_grad():
        their_logits = (
            theirs(torch.tensor(np.array(tokens), dtype=torch.long)).logits.float().numpy()
        )
    return Measured(largest_difference(logits_of(model, tokens), mx.array(their_logits)))


def _language_model(subject: Subject) -> Model:
    model, _ = load(subject.checkpoint)
    if "causal_lm" not in model.tasks:
        raise DoesNotApply("Only logits of the next token are compared across libraries.")
    return model


def _need(module: str, name: str) -> None:
    if find_spec(module) is None:
        raise DoesNotApply(f"{name} is not installed here.")


def _exported(subject: Subject, to: str) -> Path:
    """Export the checkpoint, once for each format.

    Raises:
        DoesNotApply: the format can't express the model.
    """
    out = subject.work / f"exported-{to}"
    if out.exists():
        return out
    if subject.recipe.adapt is not None:
        raise DoesNotApply("A run with adapters is exported as a model once it is fused.")
    try:
        return export_run(subject.checkpoint, to, out, dtype="float32")
    except ConvertError as error:
        raise DoesNotApply(str(error)) from None


EXPORTED = (
    Row(
        "exported = live",
        "The export to transformers, imported again, has the outputs of the run.",
        FIGURE,
        1e-5,
        reimported,
    ),
    Row(
        "exported = live in mlx-lm",
        "The export to mlx-lm has the logits of the run there.",
        FIGURE,
        1e-3,
        in_mlx_lm,
    ),
    Row(
        "exported = live in transformers",
        "The export to transformers has the logits of the run there.",
        FIGURE,
        1e-3,
        in_transformers,
    ),
)
"""Rows about exports."""
