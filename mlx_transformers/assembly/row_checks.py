"""Checks of the tables that choose the rows of a step: mixture, curriculum, batch size, length."""

from ..data.batches.packed import Packed
from ..data.config import Data
from ..data.curriculum import Curriculum
from ..trainer.config import Train
from ..trainer.source import SourceKind


def check_rows(source: SourceKind, data: Data, train: Train, curriculum: Curriculum | None) -> None:
    """Check that the source reads rows by number, and that its batches suit those tables.

    Raises:
        ValueError: they don't; the message names the key and the cure.
    """
    tables = {
        "data.mixture": data.mixture,
        "curriculum": curriculum,
        "train.batch_schedule": train.batch_schedule,
        "train.seq_len_warmup": train.seq_len_warmup,
    }
    for key, table in tables.items():
        if table and not source.by_row:
            raise ValueError(
                f"{key} chooses rows of the data, and source.kind = '{source.kind}' makes its own "
                f"batches: take source.kind = 'stream', or remove it (unset = ['{key}'])."
            )
    batch = data.batch
    if train.seq_len_warmup and not isinstance(batch, Packed):
        raise ValueError(
            f"train.seq_len_warmup shortens rows of running text, and data.batch.kind = "
            f"'{batch.kind}' isn't that: take 'rows', or remove it."
        )
    if curriculum is None:
        return
    if data.mixture:
        raise ValueError("curriculum orders the rows of one text, and data.mixture has several.")
    if "tokens" not in batch.gives or "starts" in batch.gives:
        raise ValueError(
            f"curriculum orders independent rows by their tokens, and batches of kind "
            f"'{batch.kind}' have none, or rows that continue each other: remove it."
        )
    if curriculum.by == "length" and not batch.reads_records:
        raise ValueError(
            "curriculum.by = 'length' orders records, and rows of running text are all of one "
            "length. Take 'rarity', 'compression' or 'loss', or train.seq_len_warmup."
        )
