"""Text embeddings: one vector per text, from the pool of a model or from its last layer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import mlx.core as mx
import numpy as np

from ..assembly.saved import load
from ..core.context import Context
from ..core.errors import RunError, unknown
from ..core.task import described
from ..data.tokenizers.controls import frame
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.pools import Reads, SentenceModule, read
from ..models.model import Model
from ..runs.folder import RUNS, find_checkpoint

BATCH = 32
"""Texts that are embedded together."""
Pool = Literal["own"] | Reads


@dataclass(frozen=True)
class Embedder:
    """A model, its tokenizer and how a sequence becomes one vector.

    Attributes:
        model: the model, of a kind that encodes or predicts the next token.
        tokenizer: its tokenizer.
        pool: "own" for the model's sentence pool; else the vector of the last layer to take.
    """

    model: Model
    tokenizer: Tokenizer
    pool: Pool

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, float32 `[N, D]`; longer texts than the model's are cut.

        Raises:
            RunError: a text without a token.
        """
        rows = [self.row(text) for text in texts]
        # Rows of similar length together, so that little is padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out: dict[int, np.ndarray] = {}
        for at in range(0, len(order), BATCH):
            chosen = order[at : at + BATCH]
            vectors = np.array(self._pooled([rows[i] for i in chosen]).astype(mx.float32))
            out |= dict(zip(chosen, vectors, strict=True))
        return np.stack([out[i] for i in range(len(rows))])

    def row(self, text: str) -> list[int]:
        """Return the tokens of a text as the model reads them: an encoder between CLS and SEP."""
        tokens = [int(token) for token in self.tokenizer.encode(text)]
        if "word_vectors" in self.model.tasks:  # a word that isn't known has no vector
            tokens = [token for token in tokens if token != self.tokenizer.unknown_id]
        room = self.model.max_seq_len
        if "encode" in self.model.tasks:
            framed = frame(self.tokenizer)
            if framed is not None:
                return [framed[0], *tokens[: room - 2], framed[1]]
        if not tokens:
            raise RunError(f"The text {text!r} has no token, so it has no vector.")
        return tokens[:room]

    def _pooled(self, rows: list[list[int]]) -> mx.array:
        width = max(map(len, rows))
        tokens = mx.array([row + [0] * (width - len(row)) for row in rows])
        valid = mx.array([[True] * len(row) + [False] * (width - len(row)) for row in rows])
        causal = "encode" not in self.model.tasks
        types = mx.zeros(tokens.shape, mx.int32)
        ctx = Context()
        ctx.layout = replace(ctx.layout, causal=causal, valid=valid, types=types)
        x = self.model.features(self.model.embedded({"tokens": tokens}, ctx), ctx)
        if self.pool == "own":
            pool = self.model["pool"]
            assert isinstance(pool, SentenceModule), "open_embedder has checked the kind"
            return pool(x, ctx)
        return read(x, ctx, self.pool)


def open_embedder(
    run: str | Path | None = None, pool: Pool | None = None, root: Path = RUNS
) -> Embedder:
    """Open a run as an embedder.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        pool: see `Embedder`; None takes the model's own sentence pool, or the mean without one.
        root: the folder of runs.

    Raises:
        MlxtError: there is no such run, or its model gives no vector of a text.
    """
    _, checkpoint = find_checkpoint(run, root)
    model, tokenizer = load(checkpoint)
    if not model.tasks & {"encode", "causal_lm", "word_vectors"}:
        raise RunError(
            f"{checkpoint}: its model is {described(model.tasks)}, and gives no vector of a text. "
            "Take a run of an encoder, a decoder or word vectors."
        )
    has_pool = "pool" in model and isinstance(model["pool"], SentenceModule)
    if pool == "own" and not has_pool:
        raise RunError(f"{checkpoint} has no sentence pool: take --pool first, last or mean.")
    return Embedder(model, tokenizer, pool or ("own" if has_pool else "mean"))


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of every two of N vectors, `[N, N]`."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    cosines: np.ndarray = unit @ unit.T
    return cosines


def write_vectors(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Write vectors to a new file: .npy as one array, .jsonl as an object per text.

    Raises:
        RunError: another suffix, or the file exists or can't be written.
    """
    if path.suffix not in (".npy", ".jsonl"):
        raise RunError(f"{path}: vectors are written to .npy or .jsonl.")
    try:
        with open(path, "xb") as file:
            if path.suffix == ".npy":
                np.save(file, vectors)
                return
            for text, vector in zip(texts, vectors, strict=True):
                row = {"text": text, "vector": [round(float(x), 7) for x in vector]}
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    except FileExistsError:
        raise RunError(f"{path} exists already. Choose another --out.") from None
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror}.") from error


def pool_of(name: str | None) -> Pool | None:
    """Return the pool of a name.

    Raises:
        RunError: an unknown one.
    """
    pools: dict[str, Pool] = {"own": "own", **{reads: reads for reads in get_args(Reads)}}
    if name is None:
        return None
    if name not in pools:
        raise RunError(unknown("pool", name, pools))
    return pools[name]
