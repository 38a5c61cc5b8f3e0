"""Word vectors: a table of input vectors of words, and one of output vectors (word2vec)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.footprint import ActivationShape
from ..core.task import Task
from ..layers.linear import rows_of
from .model import Arrays, LayerStack, Model, ModelKind, TowerSpec

ANY_LENGTH = 2**20
"""Words of a text: each is looked up by itself, so nothing limits them."""


class LookedUp:
    """Vectors of a table, as the memory plan counts them."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Without layers nearly all arrays of a vector that is looked up are alive at once: itself,
        its product, their gradients, and the gradient in the order of the rows."""
        return 4.5 * dim * at.itemsize


@dataclass
class NoLayers:
    """A stack without layers."""

    recomputed: frozenset[int] = frozenset()

    def layers(self) -> Sequence[nn.Module]:
        """None."""
        return []


class WordVectors(ModelKind):
    """Two vectors per word: one as input, one as the word to predict; there are no other weights.

    word2vec (Mikolov et al. 2013a, figure 1; 2013b, equation 4). The first are the word vectors
    that are used afterwards. They start as in the published word2vec.c: uniform within ±1/(2 D),
    and at zero.
    """

    kind: Literal["word_vectors"] = "word_vectors"
    tasks: ClassVar[frozenset[Task]] = frozenset({"word_vectors"})
    dim: int = Field(ge=1)
    """Width D of the vectors."""

    def towers(self) -> list[TowerSpec]:
        return [TowerSpec("", self.dim, (), (LookedUp(),), names=())]

    def build(self, vocab_size: int) -> "WordVectorsModel":
        return WordVectorsModel(self.vocab_size or vocab_size, self.dim)


class WordVectorsModel(Model):
    """`(tokens [B, T], ctx) -> [B, T, D]`, the vectors of words."""

    tasks = WordVectors.tasks
    max_seq_len = ANY_LENGTH

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.words = nn.Embedding(vocab_size, dim)
        self.words.weight = mx.random.uniform(-0.5 / dim, 0.5 / dim, (vocab_size, dim))
        self.contexts = nn.Embedding(vocab_size, dim)
        self.contexts.weight = mx.zeros((vocab_size, dim))

    def stacks(self) -> list[LayerStack]:
        return [NoLayers()]

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """Vectors `[..., D]` of the words `tokens [...]`."""
        return rows_of(self.words, batch["tokens"])

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        return x

    def predicted(self, tokens: mx.array) -> mx.array:
        """The output vectors `[..., D]` of words `[...]`."""
        return rows_of(self.contexts, tokens)

    def __call__(self, tokens: mx.array, ctx: Context | None = None) -> mx.array:
        return self.embedded({"tokens": tokens}, ctx or Context())
