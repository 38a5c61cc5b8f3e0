"""The slot `model`: the table of a model kind, and the module that it builds.

A new model kind is one file. Trainer, planner, profiler, decoder and converters know a model by
its tasks and its towers, never by the name of its kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context
from ..core.errors import RunError
from ..core.footprint import ActivationShape
from ..core.task import GENERATING, Task
from ..core.tree import Arrays as Arrays
from ..core.tree import Tree
from ..layers.kinds import PositionKind, State
from ..ops.unembedding import Unembedding
from ..recipe.config import Kind


class SavesBytes(Protocol):
    """The config of a layer, an embedding or a norm."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that its forward saves for its backward."""
        ...


@dataclass(frozen=True)
class TowerSpec:
    """The configs of one tower: embedding, layers and norm over one sequence.

    Attributes:
        path: its table in `[model]`, and its module; "" where it is the model itself.
        dim: width D.
        layers: one config per layer, in the order that they run.
        edges: configs of the parts before the first layer and after the last one.
        position: config of the tower's position kind, None where it has none.
        names: the layers' names, those of `pattern`; repeated until there is one for each.
        reads_source: whether it reads the batch's `source` rather than its `tokens`.
        stride: items of its row that make one position, such as the pixels of a patch.
        reversible: whether its layers save no activations (models/reversible.py).
    """

    path: str
    dim: int
    layers: Sequence[SavesBytes]
    edges: Sequence[SavesBytes] = ()
    position: PositionKind | None = None
    names: Sequence[str] = ("block",)
    reads_source: bool = False
    stride: int = 1
    reversible: bool = False


class ModelKind(Kind, ABC):
    """The table of a model kind."""

    tasks: ClassVar[frozenset[Task]]
    """Tasks of its models; an objective lists those that it trains."""

    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary V; none means the tokenizer's own."""

    @abstractmethod
    def towers(self) -> list[TowerSpec]:
        """The towers, in the order that they run."""

    @abstractmethod
    def build(self, vocab_size: int) -> "Model":
        """The module, initialised from MLX's global random state.

        Args:
            vocab_size: V, where the table gives none.

        Raises:
            RecipeError: its sizes don't go together.
        """

    def layers(self) -> Sequence[SavesBytes]:
        """The config of each layer of all towers, in the order that they run."""
        return [layer for tower in self.towers() for layer in tower.layers]

    def training_towers(self) -> list[TowerSpec]:
        """Towers that run in training alone, such as those of multi-token prediction."""
        return []

    def context(self) -> int | None:
        """The longest sequence that its models are made for, in tokens; None: any length."""
        return None

    def without_helpers(
        self, weights: dict[str, mx.array]
    ) -> tuple["ModelKind", dict[str, mx.array]]:
        """The table and the weights, by name, of what is used once training is over: the model
        itself, unless a part of it serves the training alone."""
        return self, weights

    @property
    def generates(self) -> bool:
        """Whether its models generate text."""
        return bool(self.tasks & GENERATING)


class LayerStack(Protocol):
    """The layers of a tower, some of which recompute their activations in the backward pass."""

    recomputed: frozenset[int]

    def layers(self) -> Sequence[nn.Module]:
        """The layers, in the order that they run."""
        ...


class Model(nn.Module, ABC):
    """A model as the trainer and its objectives see it.

    Attributes:
        tasks: those of its kind.
        vocab_size: V.
        max_seq_len: the longest sequence, in tokens.
    """

    tasks: ClassVar[frozenset[Task]]
    vocab_size: int
    max_seq_len: int

    @abstractmethod
    def stacks(self) -> Sequence[LayerStack]:
        """The stacks of layers, one per tower, in the order that they run."""

    @abstractmethod
    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The input of the first layer, `[B, T, D]`: vectors of tokens, patches or sound.

        What the layers need besides it goes to `ctx`: positions, or the memory of an encoder.
        """

    @abstractmethod
    def features(self, x: mx.array, ctx: Context) -> mx.array:
        """The output of the last layer, normalised, `[B, T, D]`, for `x` of `embedded`."""

    def transform(self, h: mx.array) -> mx.array:
        """The vectors `[..., width]` that meet the unembedding, for `h [..., D]` of `features`."""
        return h

    def exit(self, h: mx.array) -> mx.array | None:
        """The vectors that meet the unembedding, for the output `h [..., D]` of any layer of the
        last stack; None where a layer's output can't be read so."""
        return None

    def toward_teacher(self, x: mx.array) -> mx.array:
        """Vectors `[..., D]` of a layer in the width of a teacher's, in distillation."""
        return x

    def hidden(self, x: mx.array, ctx: Context) -> mx.array:
        """The vectors `[B, T, width]` that meet the unembedding, for `x` of `embedded`."""
        return self.transform(self.features(x, ctx))

    def unembedding(self) -> Unembedding | None:
        """The linear map from `hidden` to logits; None where there is no head over the
        vocabulary."""
        return None

    def carried_state(self, batch: int) -> Tree:
        """The recurrent state before the first of consecutive batches of `batch` rows; None where
        the model has no state to carry."""
        return None


class Decodable(Model):
    """A model that generates text, token by token.

    Attributes:
        reads_padding: whether its rows may begin with padding.
    """

    reads_padding: ClassVar[bool] = True

    def init_state(
        self,
        batch: int,
        length: int,
        dtype: mx.Dtype = mx.float32,
        *,
        pad: mx.array | None = None,
        total_length: int | mx.array = 0,
        given: Arrays | None = None,
    ) -> State:
        """The decode state before the first token.

        Args:
            batch: rows B.
            length: the most tokens of a row.
            dtype: that of the state.
            pad: `[B]`, left padding: slots before the first token of each row.
            total_length: length of the sequence that is read next, a scalar or `[B]`, where a
                model with `recompute_beyond` reads it in several steps.
            given: arrays of `embedded` beside the tokens that condition the rows, by name:
                `source`, `source_valid`, `patches`, ...; `vectors [B, S, W]` stand in place of
                the embeddings of those of the first S tokens that are -1 (soft prompts).

        Raises:
            RunError: the model has not as many positions, or doesn't read padding.
        """
        given = given or {}
        if pad is not None and not self.reads_padding:
            raise RunError(
                "This model decodes rows without padding: give it targets that begin with equally "
                "many tokens."
            )
        state = self.init_layers(batch, length, dtype, given)
        if pad is not None:
            state["pad"] = pad
        if self.recompute_beyond is not None:
            state["total_length"] = mx.array(total_length)
        if "vectors" in given:
            state["vectors"] = given["vectors"]
        return state

    @abstractmethod
    def init_layers(self, batch: int, length: int, dtype: mx.Dtype, given: Arrays) -> State:
        """The decode state of the layers and of what `given` conditions them on, for `init_state`.

        Raises:
            RunError: the model has not as many positions.
        """

    @abstractmethod
    def step(self, tokens: mx.array, state: State) -> tuple[mx.array, State]:
        """Continue every row by `tokens [B, T]`: logits `[B, T, V]` and the new state."""

    def soft_prompt(self) -> mx.array | None:
        """Trained vectors `[P, W]` that stand before every row (prompt tuning); None: none. The
        caller of `step` reads them first, as `given["vectors"]`."""
        return None

    @property
    def recompute_beyond(self) -> int | None:
        """The length beyond which cached keys must be computed anew (LongRoPE); None: never."""
        return None


def causal_decoder(model: Model) -> Decodable | None:
    """The model if it continues a text by itself: no encoder, and none that needs a source."""
    return model if isinstance(model, Decodable) and "causal_lm" in model.tasks else None


class Aligning(Decodable):
    """An encoder-decoder whose attention over the source can be looked at."""

    reads_padding = False

    @abstractmethod
    def alignment(
        self, source: mx.array, tokens: mx.array, valid: mx.array | None = None
    ) -> mx.array:
        """Attention of target tokens over source tokens, `[B, T, S]`.

        Args:
            source: `[B, S]`.
            tokens: inputs of the decoder, `[B, T]`.
            valid: `[B, S]`, False on padding; None: no padding.

        Raises:
            RunError: the model has no attention over a source.
        """


def vectors_at(state: Mapping[str, Any], length: int) -> mx.array | None:
    """The vectors of a decode state for the next `length` tokens, `[B, length, W]`, if any."""
    vectors: mx.array | None = state.get("vectors")
    if vectors is None:
        return None
    places = mx.minimum(mx.arange(length) + state["offset"], vectors.shape[1] - 1)
    return mx.take(vectors, places, axis=1)


def last(x: mx.array, length: int) -> mx.array:
    """The last `length` positions of x `[B, P + T, D]`: those of tokens, behind a soft prompt."""
    return x if x.shape[1] == length else x[:, -length:]


def layers_of(model: Model) -> list[nn.Module]:
    """The layers of all stacks, in the order that they run."""
    return [layer for stack in model.stacks() for layer in stack.layers()]


def recompute_layers(model: Model, chosen: frozenset[int]) -> None:
    """Recompute the activations of the `chosen` layers, numbered through all stacks, and of no
    others."""
    first = 0
    for stack in model.stacks():
        count = len(stack.layers())
        stack.recomputed = frozenset(i - first for i in chosen if first <= i < first + count)
        first += count


def recomputed_layers(model: Model) -> frozenset[int]:
    """The layers whose activations are recomputed, numbered through all stacks."""
    first, layers = 0, set()
    for stack in model.stacks():
        layers |= {first + i for i in stack.recomputed}
        first += len(stack.layers())
    return frozenset(layers)
