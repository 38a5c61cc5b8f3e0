"""Heads, slot `head`: logits of every position from the output of a stack, `[B, T, D]`.

With tied embeddings (weight tying) the unembedding is the embedding table.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..core.footprint import ActivationShape
from ..ops.activations import ACTIVATIONS
from ..ops.unembedding import Unembedding
from ..recipe.config import Kind
from ..recipe.slot import Slot
from .ffns.mlp import Activation
from .kinds import HeadKind, NormKind
from .linear import PackedMatrix, is_frozen, tied_matrix
from .parameter import LINEAR, Role


class VocabularyHead(HeadKind):
    """A head over the vocabulary: `softcap(scale · transform(h) Wᵀ + b)`."""

    tied: bool
    """Weight tying: whether W is the embedding table itself."""
    bias: bool = False
    """Whether a bias per token is learned."""
    softcap: float | None = Field(None, gt=0)
    """Soft cap c of the logits; none leaves them unbounded."""
    scale: float = Field(1.0, gt=0)
    """Factor of the logits before the soft cap (Cohere, Granite; T5: 1/√D)."""
    width: int | None = Field(None, ge=1)
    """Width of the unembedding, where it is not the model's: that of a factorised embedding
    (OPT 350M, ALBERT)."""

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> "LmHeadModule":
        """The module, for a residual stream of width `dim`."""


class LmHead(VocabularyHead):
    """Logits over the vocabulary: `softcap(scale · h Wᵀ + b)`.

    Tied weights: Press & Wolf 2017. The soft cap `c · tanh(logits / c)` is Gemma 2's.
    """

    kind: Literal["lm"] = "lm"

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Its input; with a projection the input of the logits too."""
        return float((dim + (self.width or 0)) * at.itemsize)

    def build(self, vocab_size: int, dim: int) -> "LmHeadModule":
        return LmHeadModule(self, vocab_size, dim)


class MlmHead(VocabularyHead):
    """BERT's head: `softcap(scale · norm(act(W_m h + b_m)) Wᵀ + b)`.

    Devlin et al. 2018: their code, `get_masked_lm_output`.
    """

    kind: Literal["mlm"] = "mlm"
    activation: Activation
    """Activation after the head's own linear layer."""
    map_bias: bool = True
    """Whether that linear layer has a bias."""
    norm: Annotated[NormKind, Slot("norm")]
    """Normalisation after the activation."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Its input, the linear layer's output, the norm's input, and the input of the logits."""
        width = self.width or dim
        return (dim + 2 * width) * at.itemsize + self.norm.saved_bytes(width, at)

    def build(self, vocab_size: int, dim: int) -> "MlmHeadModule":
        return MlmHeadModule(self, vocab_size, dim)


class TagHead(HeadKind):
    """Logits of `n_classes` for every token: `W norm(act(W_h h + b_h)) + b`.

    The inner layer and the norm are optional.

    Token classification and the two ends of an answer: Devlin et al. 2018, sections 4.2 and 5.3.
    Replaced token detection: Clark et al. 2020 (ELECTRA), equation for D, which has the inner
    linear layer.
    """

    kind: Literal["tags"] = "tags"
    n_classes: int = Field(ge=1)
    """Classes of a token."""
    activation: Activation | None = None
    """Activation after an inner linear layer of width D; none means no inner layer."""
    map_bias: bool = True
    """Whether the inner linear layer has a bias."""
    norm: Annotated[NormKind, Slot("norm")] | None = None
    """Normalisation after the inner activation (ModernBERT)."""

    @model_validator(mode="after")
    def _inside_exists(self) -> "TagHead":
        refuse_without_map(self.activation, self.norm, self.map_bias)
        return self

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Its input; with a linear layer that one's output, and the inputs of norm and classes."""
        norm = 0.0 if self.norm is None else self.norm.saved_bytes(dim, at)
        return (1 if self.activation is None else 3) * dim * at.itemsize + norm

    def build(self, vocab_size: int, dim: int) -> "TagHeadModule":
        return TagHeadModule(self, dim)


def vocabulary_head(head: HeadKind, vocab_size: int, dim: int) -> "LmHeadModule":
    """Build a head over the vocabulary.

    Raises:
        RecipeError: `head` is of another kind.
    """
    if not isinstance(head, VocabularyHead):
        raise RecipeError(
            f"model.head.kind = '{head.kind}' gives no logits over the vocabulary: set "
            "model.head.kind = 'lm' or 'mlm'."
        )
    return head.build(vocab_size, dim)


def refuse_tied(head: HeadKind, reversible: str | None) -> None:
    """Reject a head that reads two streams side by side by an embedding table of half their width.

    Raises:
        ValueError: it does.
    """
    if reversible != "concatenate" or not isinstance(head, VocabularyHead):
        return
    if head.tied and head.width is None:
        raise ValueError(
            "head.tied uses the embedding table of width dim, and reversible = 'concatenate' gives "
            "vectors twice as wide: set head.tied = false, or reversible = 'mean'."
        )


def refuse_without_map(activation: Activation | None, norm: Kind | None, map_bias: bool) -> None:
    """Reject norm or map_bias when activation is None: there is no inner layer for them.

    Raises:
        ValueError: one of them is given.
    """
    if activation is None and (norm is not None or not map_bias):
        raise ValueError("norm and map_bias have no effect without activation: there is no layer.")


class LmHeadModule(PackedMatrix):
    """`(h [B, T, D], table) -> logits [B, T, V]`: `transform`, then the `unembedding`."""

    roles: ClassVar[dict[str, Role]] = LINEAR

    def __init__(self, config: VocabularyHead, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.softcap, self.scale = config.softcap, config.scale
        if config.width is not None and not isinstance(config, MlmHead):
            self.project = nn.Linear(dim, config.width, bias=False)
        if not config.tied:
            self.weight = mx.zeros((vocab_size, config.width or dim))
        if config.bias:
            self.bias = mx.zeros((vocab_size,))

    def transform(self, h: mx.array) -> mx.array:
        """The input of the unembedding, `[B, T, width]`."""
        h = self.project(h) if "project" in self else h
        return h if self.scale == 1.0 else h * self.scale

    def unembedding(self, table: nn.Embedding | None) -> Unembedding:
        """The unembedding; its weight is the embedding's `table` where they are tied."""
        source: nn.Module = self if "weight" in self or table is None else table
        weight = self.matrix() if source is self else tied_matrix(source)
        return Unembedding(weight, self.get("bias"), self.softcap, is_frozen(source))

    def __call__(self, h: mx.array, table: nn.Embedding | None) -> mx.array:
        return self.unembedding(table).logits(self.transform(h))


class MlmHeadModule(LmHeadModule):
    """`(h [B, T, D], table) -> logits [B, T, V]` through a linear layer, activation and norm."""

    def __init__(self, config: MlmHead, vocab_size: int, dim: int) -> None:
        super().__init__(config, vocab_size, dim)
        width = config.width or dim
        self.map = nn.Linear(dim, width, bias=config.map_bias)
        self.norm = config.norm.build(width)
        self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]

    def transform(self, h: mx.array) -> mx.array:
        return super().transform(self.norm(self.activation(self.map(h))))


class TagHeadModule(nn.Module):
    """`h [B, T, D] -> logits [B, T, n_classes]`."""

    def __init__(self, config: TagHead, dim: int) -> None:
        super().__init__()
        if config.activation is not None:
            self.map = nn.Linear(dim, dim, bias=config.map_bias)
            self.activation: Callable[[mx.array], mx.array] = ACTIVATIONS[config.activation]
        if config.norm is not None:
            self.norm = config.norm.build(dim)
        self.out = nn.Linear(dim, config.n_classes)

    def __call__(self, h: mx.array, table: nn.Embedding | None = None) -> mx.array:
        if "map" in self:
            h = self.activation(self.map(h))
        return self.out(self.norm(h) if "norm" in self else h)
