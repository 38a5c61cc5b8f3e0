"""Records to prepare in a test, and rows to look at."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchKind, BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.prepared import Prepared


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    """A .jsonl file of records."""
    path = folder / "records.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def table(path: Path, batch: dict[str, Any], **keys: Any) -> Data:
    """A `[data]` table over a file, bytes as tokens."""
    keys = {"tokenizer": {"kind": "byte"}, "valid_fraction": 0.2} | keys
    return Data.model_validate({"path": str(path), "batch": batch} | keys)


def prepared(path: Path, batch: dict[str, Any], **keys: Any) -> tuple[Prepared, BatchKind]:
    """The prepared set and the batch kind of such a table."""
    data = table(path, batch, **keys)
    return prepare(data), data.batch


def train(made: tuple[Prepared, BatchKind], seq_len: int, seed: int = 0, **keys: Any) -> Any:
    """The training rows."""
    return made[1].train(made[0], BatchSetting(seq_len, seed, **keys))


def held_out(made: tuple[Prepared, BatchKind], seq_len: int, seed: int = 0) -> Any:
    """The rows of validation."""
    return made[1].held_out(made[0], "valid", BatchSetting(seq_len, seed))


def text(row: np.ndarray) -> str:
    """Byte tokens as text, control tokens as their numbers in angle brackets."""
    return "".join(chr(t) if t < 256 else f"<{t}>" for t in row.tolist())
