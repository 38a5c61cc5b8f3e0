"""Abstract config classes of the layer slots; protocols.py has those of the modules they build.

A kind subclasses the class of its slot; the registry refuses one that leaves a method out. The
methods that every computing kind has:

    build        the module
    saved_bytes  bytes per token that the forward saves for the backward, for the memory plan
    flops        operations of matrix products per token, beyond two for each weight
    part         the kind as one of n tensor-parallel processes builds it
"""

from abc import abstractmethod
from typing import ClassVar, Literal, Self

import mlx.core as mx
import mlx.nn as nn

from ..core.errors import RecipeError
from ..core.footprint import ActivationShape
from ..recipe.config import Kind
from .linear import ResidualLinear
from .positions.position import Position
from .protocols import (
    Alignment,
    Apply,
    CrossMixer,
    Depth,
    Embed,
    Expert,
    Ffn,
    Head,
    LinearFactory,
    Mixer,
    Norm,
    Pool,
    Project,
    RecurrentCell,
    RecurrentFfn,
    Router,
    RunLayer,
    State,
    StateProduct,
)

__all__ = [
    "AlignKind",
    "Alignment",
    "Apply",
    "CellKind",
    "CrossMixer",
    "CrossMixerKind",
    "Depth",
    "DepthKind",
    "Embed",
    "EmbedKind",
    "Expert",
    "ExpertKind",
    "Ffn",
    "FfnKind",
    "Head",
    "HeadKind",
    "InitKind",
    "LayerKind",
    "LinearFactory",
    "Mixer",
    "MixerKind",
    "Norm",
    "NormKind",
    "Pool",
    "PoolKind",
    "PositionKind",
    "Project",
    "Reads",
    "RecurrentCell",
    "RecurrentFfn",
    "RecurrentFfnKind",
    "Router",
    "RouterKind",
    "RunLayer",
    "ScalingKind",
    "ScoreBias",
    "SplitKind",
    "State",
    "StateProduct",
    "joint_score_bias",
]


ScoreBias = Literal["adds", "refuses", "none"]


class LayerKind(Kind):
    """A kind that computes on the residual stream of width `dim`.

    Attributes:
        causal: whether an output can be computed without later positions. A kind that needs them
            can't decode, and is refused in a model that predicts the next token.
    """

    causal: ClassVar[bool] = True

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward, its own output excluded."""

    @abstractmethod
    def flops(self, dim: int, length: int) -> float:
        """Forward operations of matrix products per token of a causal row of `length` tokens, two
        for each multiplication and addition, beyond two for each weight the token meets."""


class SplitKind(LayerKind):
    """A layer on the residual stream.

    Tensor-parallel processes can split its work if it has a `part`; by default it can't be.

    Attributes:
        projects_first: whether its module has `projections` and `mix` (layers/projected.py), so
            that a norm before it is computed again in the backward pass.
    """

    projects_first: ClassVar[bool] = False

    def part(self, dim: int, n: int) -> Self:
        """The kind as one of `n` processes builds it, with its part of the heads or features.

        Raises:
            RecipeError: this kind can't be split, or not evenly.
        """
        raise RecipeError(
            f"kind = '{self.kind}' can't be split across processes: unset train.tensor_parallel."
        )


class MixerKind(SplitKind):
    """Slot `mixer`: attention, convolution, recurrence over time, ..."""

    @property
    def leaves_array(self) -> str | None:
        """The name under which it leaves an array for later layers, in `ctx.earlier`."""
        return None

    @property
    def reads_array(self) -> str | None:
        """The name of an array that a layer below must leave."""
        return None

    @property
    def score_bias(self) -> ScoreBias:
        """Whether it adds the bias of a position kind such as ALiBi to its attention scores,
        refuses it since its pattern has no place for one, or has no scores to add it to."""
        return "none"

    @property
    def skips_tokens(self) -> bool:
        """Whether it can leave some tokens of a row out: those that `valid` or `cursor.seen` mark
        change nothing for the others, whatever stands between."""
        return False

    @property
    def rewinds(self) -> bool:
        """Whether its decode state is a KV cache (mixers/kv_cache.py) that can go back to an
        earlier position: entries of later positions aren't seen, and are written over."""
        return False

    def backward_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token of arrays that its backward computes again, such as the states of a scan,
        where they may be more than what its forward saves."""
        return 0.0

    @abstractmethod
    def build(self, dim: int) -> Mixer:
        """The module, for a residual stream of width `dim`."""


def joint_score_bias(*kinds: MixerKind) -> ScoreBias:
    """The score bias of mixers that share a position: a refusal first, then a sum."""
    answers = {kind.score_bias for kind in kinds}
    return "refuses" if "refuses" in answers else "adds" if "adds" in answers else "none"


class CrossMixerKind(MixerKind):
    """A mixer that fills `block.cross`: it reads the output of an encoder."""

    @abstractmethod
    def build(self, dim: int) -> CrossMixer:
        """The module, for a residual stream and a memory of width `dim`."""


class FfnKind(SplitKind):
    """Slot `ffn`: feed-forward networks and mixtures of them."""

    @abstractmethod
    def build(self, dim: int) -> Ffn:
        """The module, for a residual stream of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight, unless a kind multiplies activations together."""
        return 0.0


class RecurrentFfnKind(FfnKind):
    """An ffn with a decode state: its output at a token depends on earlier ones (RWKV)."""

    @abstractmethod
    def build(self, dim: int) -> RecurrentFfn:
        """The module, for a residual stream of width `dim`."""


class ExpertKind(FfnKind):
    """An ffn that a mixture can stack: every weight comes from a factory of linear layers."""

    def build(self, dim: int) -> Expert:
        return self.build_experts(dim, nn.Linear, ResidualLinear)

    @abstractmethod
    def build_experts(self, dim: int, linear: LinearFactory, out: LinearFactory) -> Expert:
        """The module with its linear layers made by `linear`, its last one by `out`."""


class DepthKind(Kind):
    """Slot `depth`: how the layers of a stack follow each other."""

    @abstractmethod
    def build(self, dim: int, n_layers: int) -> Depth:
        """The module, for L layers on a residual stream of width `dim`."""

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape, n_layers: int) -> float:
        """Bytes per token that the forward saves for its backward, beside the layers' own."""


class NormKind(LayerKind):
    """Slot `norm`."""

    @abstractmethod
    def build(self, dim: int) -> Norm:
        """The module, for vectors of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None: elementwise operations are not counted."""
        return 0.0


class PositionKind(Kind):
    """Slot `position`. Mixers count the memory of the scores that a bias is added to, and positions
    that of their own arrays.

    Attributes:
        adds_to_scores: whether it adds a bias to the attention scores.
    """

    adds_to_scores: ClassVar[bool] = False

    @abstractmethod
    def build(self, dim: int, max_seq_len: int) -> Position:
        """The module, for embeddings of width `dim` and at most `max_seq_len` positions."""

    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward of each layer saves for arrays of its distances."""
        return 0.0

    def flops(self, dim: int, length: int) -> float:
        """Forward operations of its matrix products per token and layer of a causal row of `length`
        tokens, beyond two for each weight of its own."""
        return 0.0


class HeadKind(LayerKind):
    """Slot `head`: reads every position of the last layer's output.

    Logits are not counted as saved: the loss computes them in chunks.
    """

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> Head:
        """The module, for a residual stream of width `dim`."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight."""
        return 0.0


class PoolKind(Kind):
    """Slot `pool`: reads a whole sequence as one vector."""

    @abstractmethod
    def build(self, dim: int) -> Pool:
        """The module, for a residual stream of width `dim`."""


class CellKind(Kind):
    """Slot `cell`: the step of a recurrent layer."""

    @abstractmethod
    def build(self, in_dim: int, dim: int) -> RecurrentCell:
        """A cell of `dim` units that reads vectors of width `in_dim`."""

    @abstractmethod
    def saved_bytes(self, in_dim: int, dim: int, at: ActivationShape) -> float:
        """Bytes per token that the forward saves for its backward."""

    def flops(self, in_dim: int, dim: int, length: int) -> float:
        """None beyond two for each weight: a cell multiplies by nothing else."""
        return 0.0


class AlignKind(Kind):
    """Slot `align`: attention of a recurrent decoder over the source."""

    @abstractmethod
    def saved_bytes(self, dim: int, at: ActivationShape) -> float:
        """Bytes per query that the forward saves for its backward."""

    @abstractmethod
    def flops(self, dim: int, length: int) -> float:
        """Forward operations of matrix products per query over a source of `length` tokens, the
        weighted mean of the memory included, beyond two for each weight that the query meets."""

    @abstractmethod
    def build(self, dim: int) -> Alignment:
        """An alignment of decoder states and memories, both of width `dim`."""


class RouterKind(Kind):
    """Slot `router`: chooses `top_k` of E experts for each token."""

    top_k: int

    @abstractmethod
    def build(self, dim: int, n_experts: int) -> Router:
        """The module, for a residual stream of width `dim`.

        Raises:
            RecipeError: it can't choose from `n_experts`.
        """

    @abstractmethod
    def saved_bytes(self, n_experts: int) -> float:
        """Bytes per token that the forward saves for its backward, its input excluded."""


Reads = Literal["tokens", "pixels", "frames"]
"""Inputs that an embedding turns into vectors."""


class EmbedKind(LayerKind):
    """Slot `embed`: turns tokens, pixels or frames of sound into vectors.

    Attributes:
        reads: which of them; a model of text refuses an embedding of pictures.
    """

    reads: ClassVar[Reads] = "tokens"

    @abstractmethod
    def build(self, vocab_size: int, dim: int, table: bool = True) -> Embed:
        """The module; without `table` it reads one that its caller passes."""

    def flops(self, dim: int, length: int) -> float:
        """None beyond two for each weight of a projection: a lookup multiplies nothing."""
        return 0.0

    @abstractmethod
    def position_width(self, dim: int) -> int:
        """Width of the vectors that absolute positions are added to."""


class ScalingKind(Kind):
    """Slot `scaling`: rotary frequencies changed so that a model reads longer contexts."""

    @abstractmethod
    def inv_freq(self, theta: float, width: int, length: mx.array | int) -> mx.array:
        """Radians per position of each rotated pair, `[width / 2]`, float32.

        Args:
            theta: base of the wavelengths.
            width: features that are rotated, twice the pairs.
            length: one more than the largest position of the sequence.
        """

    def size(self) -> float:
        """The factor of rotated queries and keys."""
        return 1.0

    @property
    def recompute_beyond(self) -> int | None:
        """Sequence length at which cached keys must be recomputed; None: never."""
        return None


class InitKind(Kind):
    """Slot `init`: how the weights of a model are drawn."""

    @abstractmethod
    def apply(self, model: nn.Module, n_layers: int) -> None:
        """Set the weights of `model`, whose residual stream 2L linear layers write to."""
