"""Compares a changed model with its source, and refuses one that is too far from it."""

from collections.abc import Sequence

import mlx.core as mx

from ..assembly.recipe import Recipe
from ..compress.fidelity import Bounds, Fidelity, compare
from ..core.errors import MlxtError, RunError
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.model import Model
from .text_sample import text_rows

EQUAL = 1e-4
"""Nats per token within which two models count as equal: float32's rounding."""
ROWS, LENGTH = 8, 128
"""Most rows of text that a faithful change is measured on, and their tokens."""


def gate(
    source: Model,
    model: Model,
    rows: Sequence[mx.array],
    bounds: Bounds,
    cure: str,
    *,
    anyway: bool = False,
    text: bool = True,
) -> Fidelity:
    """Compare a changed model with its source before it is written.

    Args:
        source: the model that it was made of.
        model: the changed model.
        rows: batches of tokens `[B, T + 1]`.
        bounds: the largest differences.
        cure: a sentence without its full stop that says what to do where the model is beyond them.
        anyway: whether to write the model even then.
        text: whether the rows are text.

    Raises:
        RunError: it is beyond the bounds, and `anyway` doesn't ask for it.
    """
    difference = compare(source, model, rows, text=text)
    if difference.within(bounds) or anyway:
        return difference
    raise RunError(
        f"The result is too far from its source to be written: {difference.line()}. The bound is "
        f"{bounds}. {cure}, or write it all the same with --anyway."
    )


def check_equal(difference: Fidelity) -> None:
    """Check that a model computes what its source does.

    Raises:
        RunError: it doesn't, which is a fault of this package or of the source's layers.
    """
    if not abs(difference.kl) <= EQUAL:
        raise RunError(
            f"The result should equal its source and doesn't: {difference.line()}. Nothing was "
            "written."
        )


def rows_for(recipe: Recipe, tokenizer: Tokenizer, model: Model) -> tuple[list[mx.array], bool]:
    """Return rows to compare on, and whether they are text: the recipe's own, or random tokens
    where its text can't be read."""
    length = min(LENGTH, model.max_seq_len)
    try:
        flat = text_rows(recipe, tokenizer, model.vocab_size, ROWS, length)
    except MlxtError:
        flat = None
    if flat is not None:
        return [flat], True
    key = mx.random.key(0)
    return [mx.random.randint(0, model.vocab_size, (ROWS, min(33, length + 1)), key=key)], False
