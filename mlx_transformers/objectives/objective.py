"""The slot `objective`: the table of an objective, the function that it builds, and its models.

An objective's table also declares what it requires of the rest of a recipe, so that a recipe whose
parts don't fit is refused before anything is prepared.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Never, Protocol, TypeVar

import mlx.core as mx
from pydantic import Field

from ..core.context import Context
from ..core.loss import VAL_LOSS, Best, Loss, Unit
from ..core.peers import Peers
from ..core.task import Task
from ..core.tree import Arrays as Arrays
from ..ops.unembedding import Unembedding
from ..recipe.config import Kind

M = TypeVar("M", contravariant=True)


PICTURES = "pictures"
"""The role of a frozen model that turns pictures into tokens; it reads no text."""

ADAPTER_OFF = "adapter_off"
"""The reference policy that is the trained model with its adapters switched off."""


class Objective(Protocol[M]):
    """`(models, batch, ctx) -> Loss`; the model that is trained has the role "model"."""

    def __call__(self, models: Mapping[str, M], batch: Arrays, ctx: Context) -> Loss:
        """The summed loss of a batch."""
        ...


class ObjectiveKind(Kind, ABC):
    """The table of an objective."""

    tasks: ClassVar[frozenset[Task]]
    """Tasks of the models that it trains."""
    models: ClassVar[tuple[str, ...]] = ()
    """Kinds of models that it trains, of those with its tasks; empty means all of them."""
    requires: ClassVar[tuple[str, ...]]
    """Arrays that a batch must have (data.batch: `gives`)."""
    needs_slots: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Slots of the model that it uses, and the kinds that they may hold."""
    unit: ClassVar[Unit] = "token"
    """The unit that a weight of 1 counts."""
    classes_from: ClassVar[str | None] = None
    """The model's slot whose classes are those of the data; None where there are no classes."""
    n_classes: ClassVar[int | None] = None
    """The number of classes of that slot; None means as many as the data has."""
    best: ClassVar[Best] = VAL_LOSS
    """The metric by which checkpoints are ranked, and its better direction."""

    @property
    def couples_rows(self) -> str:
        """The reason, in a sentence, why the loss of a row depends on the other rows of its
        microbatch; empty where it doesn't."""
        return ""

    @property
    def learns_soft_targets(self) -> bool:
        """Whether the loss compares the logits of all tokens with a teacher's."""
        return False

    @abstractmethod
    def build(self) -> Objective[Never]:
        """The function. It takes models of `tasks` alone: a caller that has checked them casts."""

    def build_among(self, peers: Peers) -> Objective[Never]:
        """The function in one of several processes that split a batch."""
        return self.build()

    def frozen(self) -> dict[str, str]:
        """Runs whose models are read but not trained, by role, such as a teacher."""
        return {}


def run_of_reference(reference: str | None) -> dict[str, str]:
    """The run of a reference policy by its role; empty where it is none or the policy itself."""
    return {} if reference in (None, ADAPTER_OFF) else {"reference": str(reference)}


class ChunkedKind(ObjectiveKind):
    """The table of an objective over the vocabulary, whose logits are computed in chunks."""

    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = 512
    """Tokens whose logits are held at once: memory against the number of matmuls; `auto` is what
    the planner finds to fit."""


class SmoothedKind(ChunkedKind):
    """The table of an objective over the vocabulary with label smoothing (Szegedy et al. 2016,
    section 7) and a z loss, `z · logsumexp²` (PaLM, Chowdhery et al. 2022, section 5)."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over the vocabulary."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the squared log-partition, which keeps logits from drifting."""


class FeatureModel(Protocol):
    """A model that turns a batch into vectors."""

    def embedded(self, batch: Arrays, ctx: Context) -> mx.array:
        """The input of the first layer, `[B, T, D]`."""
        ...

    def features(self, x: mx.array, ctx: Context) -> mx.array:
        """The output of the last layer, `[B, T, D]`."""
        ...


class VocabularyModel(FeatureModel, Protocol):
    """A model with a head over the vocabulary."""

    def transform(self, h: mx.array) -> mx.array:
        """The vectors `[..., width]` that meet the unembedding, for features `[..., D]`."""
        ...

    def hidden(self, x: mx.array, ctx: Context) -> mx.array:
        """`transform` of `features`, `[B, T, width]`."""
        ...

    def unembedding(self) -> Unembedding:
        """The linear map from `hidden` to logits."""
        ...


class TaughtModel(VocabularyModel, Protocol):
    """A model whose layers may learn from a teacher's."""

    def toward_teacher(self, x: mx.array) -> mx.array:
        """Vectors `[..., D]` in the width of a teacher's."""
        ...


class PoolingModel(FeatureModel, Protocol):
    """A model with a pool: one output per sequence."""

    def pooled(self, x: mx.array, ctx: Context) -> mx.array:
        """The pool's output `[B, ...]` for features `[B, T, D]`."""
        ...


class ActorCritic(VocabularyModel, Protocol):
    """A policy with a value function on the same features."""

    def token_values(self, x: mx.array, ctx: Context) -> mx.array:
        """The value of every position, `[B, T]`, for features `[B, T, D]`."""
        ...


class TokenClassifier(Protocol):
    """A model with logits `[B, T, n_classes]` for every token."""

    def __call__(self, tokens: mx.array, ctx: Context) -> mx.array:
        """The logits of `tokens [B, T]`."""
        ...
