"""Rows of text for calibration and for measuring a changed model: a corpus, a file, a run's own."""

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..assembly.recipe import Recipe
from ..core.errors import RunError
from ..core.names import nearest
from ..core.paths import expanded
from ..data.corpora.table import CORPORA
from ..data.files import Files
from ..data.source import Source
from ..data.sources import open_source
from ..data.tokenizers.tokenizer import Tokenizer

ROWS = 64
"""Rows of calibration text."""
HELD_OUT = 16
"""Rows of other text that a changed model is measured on."""
BATCH = 8
LONGEST, SHORTEST = 512, 32
"""Tokens of a row."""
LEAST = 6
"""Rows that calibration and measurement need together."""


@dataclass(frozen=True)
class Sample:
    """Batches of rows `[B, T + 1]`.

    Attributes:
        calibration: text that a method reads.
        held_out: text that comes after it.
    """

    calibration: list[mx.array]
    held_out: list[mx.array]

    @property
    def inputs(self) -> list[mx.array]:
        """The calibration rows without their last token, `[B, T]`."""
        return [tokens[:, :-1] for tokens in self.calibration]


def sample_text(where: str | None, recipe: Recipe, tokenizer: Tokenizer, vocab_size: int) -> Sample:
    """Read rows of tokens, as long as the model of the recipe reads, up to `LONGEST`.

    Args:
        where: a built-in corpus, or a file or folder of text; None: the recipe's own data.
        recipe: the recipe of the run.
        tokenizer: its tokenizer.
        vocab_size: tokens from here on are left out.

    Raises:
        RunError: there is no such text, or too little of it.
    """
    source = _source(where, recipe)
    length = min(LONGEST, recipe.model.context() or recipe.train.seq_len)
    flat = _read(source, tokenizer, vocab_size, (ROWS + HELD_OUT) * (length + 1))
    count = len(flat)
    while count < LEAST * (length + 1) and length > SHORTEST:
        length = max(SHORTEST, length // 2)
    if count < LEAST * (length + 1):
        raise RunError(
            f"The text for calibration, {source}, has {count:,} tokens, and {LEAST} rows of "
            f"{length + 1} are the least: give more with --calibrate FILE."
        )
    n = min(count // (length + 1), ROWS + HELD_OUT)
    rows = mx.array(flat[: n * (length + 1)].reshape(n, -1).astype(np.int32))
    n_held_out = max(2, min(HELD_OUT, n // 4))
    return Sample(_batches(rows[: n - n_held_out]), _batches(rows[n - n_held_out :]))


def text_rows(
    recipe: Recipe, tokenizer: Tokenizer, vocab_size: int, rows: int, length: int
) -> mx.array | None:
    """Read up to `rows` rows `[B, length + 1]` of a recipe's text; None where it has not one.

    Raises:
        MlxtError: the text can't be read.
    """
    flat = _read(open_source(recipe.data), tokenizer, vocab_size, rows * (length + 1))
    n = len(flat) // (length + 1)
    return mx.array(flat[: n * (length + 1)].reshape(n, -1).astype(np.int32)) if n else None


def _source(where: str | None, recipe: Recipe) -> Source:
    if where is None:
        return open_source(recipe.data)
    if where in CORPORA:
        return CORPORA[where]()
    if expanded(where).exists():
        return Files(str(expanded(where)), recipe.data.text_key, None)
    match = nearest(where, list(CORPORA))
    hint = f" Did you mean '{match}'?" if match else ""
    raise RunError(
        f"--calibrate {where}: there is no such file, and no built-in corpus of that name.{hint} "
        "mlxt data list shows the corpora."
    )


def _read(source: Source, tokenizer: Tokenizer, vocab_size: int, wanted: int) -> np.ndarray:
    """The first `wanted` tokens of a text below `vocab_size`, or as many as it has."""
    parts, count = [np.zeros(0, np.int64)], 0
    for tokens in _tokens(source, tokenizer):
        usable = tokens[tokens < vocab_size]
        parts.append(usable)
        count += len(usable)
        if count >= wanted:
            break
    return np.concatenate(parts)[:wanted]


def _tokens(source: Source, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    for piece in source.pieces():
        if piece.tokens is not None:
            yield np.asarray(piece.tokens)
        elif piece.text:
            yield np.asarray(tokenizer.encode_array(piece.text))


def _batches(rows: mx.array) -> list[mx.array]:
    return [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
