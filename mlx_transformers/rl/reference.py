"""Preferences with the reference's log-probabilities, computed once and kept on disk.

Kind `referenced` of the slot `source`. The reference is read for rows that the cache lacks, and is
no part of the training step: later epochs and later runs don't compute it again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.cache import cache_folder
from ..core.errors import RecipeError
from ..core.parse import LINE, parse_json
from ..data.batches.preferences import SIDES, Preferences
from ..data.kinds import BatchKind
from ..data.stream import EvalStream
from ..runs.tensors import digest
from ..trainer.source import Batch, Feed, RunParts, SourceKind, Stream
from .scoring import Scorer


class Referenced(SourceKind):
    """Rows of the data as the source `stream` gives them, with the log-probabilities of both
    completions under a reference, `reference_chosen` and `reference_rejected` [B], for `dpo`.

    They are kept in the cache folder, one file for each reference and row length.
    """

    kind: Literal["referenced"] = "referenced"
    reference: str
    """Run of the reference policy, by name or folder; its best checkpoint."""

    def gives(self, batch: BatchKind) -> tuple[str, ...]:
        if not isinstance(batch, Preferences):
            raise ValueError(
                "source 'referenced' reads pairs: set data.batch.kind = 'preferences', not "
                f"'{batch.kind}'."
            )
        return (*batch.gives, *(f"reference_{side}" for side in SIDES))

    def frozen(self) -> dict[str, str]:
        return {"reference": self.reference}

    def feed(self, parts: RunParts, cursor: Mapping[str, Any]) -> "ReferencedFeed":
        if parts.ranks.processes > 1:
            raise RecipeError("source 'referenced' runs in one process: start one.")
        return ReferencedFeed(Stream().feed(parts, cursor), LogProbs(parts))

    def held_out(self, parts: RunParts, batches: int | None) -> "ReferencedBatches":
        return ReferencedBatches(Stream().held_out(parts, batches), LogProbs(parts))


class LogProbs:
    """The reference's log-probability of each row, from the cache where it has been computed.

    Attributes:
        computed: rows computed since the beginning, in place of read from the cache.
    """

    def __init__(self, parts: RunParts) -> None:
        model = parts.frozen["reference"].model
        self._score = Scorer(model, parts.train.batch_size, temperature=1.0)
        name = f"{digest(model.parameters())[:24]}-{parts.train.seq_len}.jsonl"
        self._file = cache_folder() / "reference-log-probs" / name
        self._known = _read(self._file)
        self.computed = 0

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the arrays of the reference."""
        log_probs = {f"reference_{side}": self._side(batch, side) for side in SIDES}
        return {**batch, **log_probs}

    def _side(self, batch: Batch, side: str) -> np.ndarray:
        tokens, counted = np.asarray(batch[side]), np.asarray(batch[f"{side}_counted"])
        keys = [_key(*row) for row in zip(tokens, counted, strict=True)]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            logps = self._score(tokens[missing])["logps"] * counted[missing]
            new = {keys[i]: float(v) for i, v in zip(missing, logps.sum(axis=1), strict=True)}
            self._known |= new
            self.computed += len(new)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(item) + "\n" for item in new.items())
        return np.array([self._known[key] for key in keys], np.float32)


def _key(tokens: np.ndarray, counted: np.ndarray) -> str:
    content = tokens.astype(np.int32).tobytes() + counted.astype(np.float32).tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read(file: Path) -> dict[str, float]:
    """The log-probabilities of a cache file; a last line that a kill has cut is left out."""
    log_probs: dict[str, float] = {}
    if not file.is_file():
        return log_probs
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            item: Any = parse_json(line, str(file), LINE)
            key, value = item
            log_probs[str(key)] = float(value)
        except (ValueError, TypeError):
            continue
    return log_probs


class ReferencedFeed:
    """A feed of pairs with the arrays of the reference."""

    def __init__(self, feed: Feed, log_probs: LogProbs) -> None:
        self._feed, self.log_probs = feed, log_probs
        self.close: Callable[[], None] = feed.close
        self.stats: Callable[[], dict[str, Any]] = feed.stats
        self.sample: Callable[[], str | None] = feed.sample

    def __next__(self) -> Batch:
        return self.log_probs(next(self._feed))

    def preview(self, n: int) -> list[Batch]:
        """The next `n` batches, without moving on."""
        return [self.log_probs(batch) for batch in self._feed.preview(n)]

    @property
    def cursor(self) -> dict[str, Any]:
        """The position in the data."""
        return self._feed.cursor

    @property
    def shapes(self) -> int:
        """Number of shapes that the batches may have."""
        return self._feed.shapes

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the data's loader."""
        return self._feed.tokens_per_s


class ReferencedBatches:
    """The batches of an evaluation with the arrays of the reference."""

    def __init__(self, batches: EvalStream, log_probs: LogProbs) -> None:
        self._batches, self._log_probs = batches, log_probs

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return map(self._log_probs, self._batches)
