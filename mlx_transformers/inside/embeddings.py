"""Embeddings of the tokens of a text, and of positions: neighbours, principal components."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..core.context import Context
from ..layers.mixers.attention import SoftmaxMixer
from ..models.stack import TowerModule
from .reading import Reading

NEIGHBOURS = 6
"""Nearest tokens that are listed."""
POSITIONS = 64
"""Positions of the similarity matrix."""


@dataclass(frozen=True)
class Embeddings:
    """The embedding table around the tokens of a text.

    Attributes:
        tokens: the text's distinct tokens, and their nearest ones after them.
        in_text: how many of them are the text's own.
        neighbours: the nearest tokens of each of the text's, by cosine, itself left out.
        cosine: their cosines, `[N, NEIGHBOURS]`.
        components: the first two principal components of the vectors of `tokens`, `[M, 2]`.
        explained: the share of the variance that each of them has, `[2]`.
        positions: similarities of positions `[P, P]`, cosines of their embeddings, or the score of
            a query and an equal key rotated to them; None where a position adds neither.
        position_kind: how they were compared; "" where they weren't.
    """

    tokens: list[str]
    in_text: int
    neighbours: list[list[str]]
    cosine: np.ndarray
    components: np.ndarray
    explained: np.ndarray
    positions: np.ndarray | None
    position_kind: str


def embeddings(reading: Reading) -> Embeddings | None:
    """Compare the embeddings of a text's tokens with those of the vocabulary.

    Returns:
        None for a model without an unembedding or with no table of its own.
    """
    head = reading.model.unembedding()
    if head is None:
        return None
    # Where embedding and unembedding are tied this is the table itself; elsewhere the directions
    # by which tokens are predicted.
    table = head.weight[: reading.vocab_size].astype(mx.float32)
    unit = table / mx.maximum(mx.linalg.norm(table, axis=-1, keepdims=True), 1e-9)
    text_tokens = [token for token in dict.fromkeys(reading.tokens) if token < reading.vocab_size]
    cosines = unit[mx.array(text_tokens)] @ unit.T
    best = np.array(mx.argsort(-cosines, axis=-1)[:, : NEIGHBOURS + 1])
    rows = [
        [int(neighbour) for neighbour in row if neighbour != token][:NEIGHBOURS]
        for token, row in zip(text_tokens, best, strict=True)
    ]
    all_tokens = list(dict.fromkeys([*text_tokens, *(token for row in rows for token in row)]))
    components, explained = principal(np.array(table[mx.array(all_tokens)]))
    kind, similar = _positions(reading)
    values = np.array(cosines)
    return Embeddings(
        tokens=[reading.text(token) for token in all_tokens],
        in_text=len(text_tokens),
        neighbours=[[reading.text(token) for token in row] for row in rows],
        cosine=np.stack([values[i, row] for i, row in enumerate(rows)]),
        components=components,
        explained=explained,
        positions=similar,
        position_kind=kind,
    )


def principal(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of vectors `[M, D]`, `[M, 2]`, and the share of the
    variance that each has."""
    centred = vectors - vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    u, s = np.pad(u, ((0, 0), (0, 2)))[:, :2], np.pad(s, (0, 2))
    return u * s[:2], s[:2] ** 2 / max(float((s**2).sum()), 1e-12)


def _positions(reading: Reading) -> tuple[str, np.ndarray | None]:
    """How positions are compared, and their similarities."""
    model = reading.model
    if not isinstance(model, TowerModule):
        return "", None
    ctx, n = Context(), min(POSITIONS, model.max_seq_len)
    zeros = mx.zeros((1, n, model.embed.table.weight.shape[-1]))
    added = np.array(model.position.embed(zeros, ctx)[0])
    if np.abs(added).max() > 0:
        unit = added / np.maximum(np.linalg.norm(added, axis=-1, keepdims=True), 1e-9)
        return "cosine of the vectors that are added", unit @ unit.T
    mixer = model.stack.layers()[0].mixer
    if not isinstance(mixer, SoftmaxMixer):
        return "", None
    ones = mx.ones((1, 1, n, mixer.head_dim))
    q, k = model.position.rotate(ones, ones, ctx)
    score = np.array((q[0, 0] @ k[0, 0].T).astype(mx.float32)) / mixer.head_dim
    if np.ptp(score) == 0:
        return "", None
    return "score of a query and an equal key, both rotated", score
