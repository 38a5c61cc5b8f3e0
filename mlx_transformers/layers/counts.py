"""Parameters of a model, those active for a token, and operations per token."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .block import BlockModule


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, each array once.

    Attributes:
        total: all parameters.
        active: parameters that one token meets, without the experts that it does not choose.
        embedding: parameters that are only looked up; a table tied to the head is not counted.
        trainable: parameters that are not frozen.
    """

    total: int
    active: int
    embedding: int
    trainable: int


@runtime_checkable
class Sparse(Protocol):
    """A module of which each token meets a part only, such as a mixture of experts."""

    def idle_parameters(self) -> int:
        """Parameters that a token does not meet."""
        ...


@runtime_checkable
class Multiplying(Protocol):
    """A module beside blocks that multiplies activations together, such as a tower's positions."""

    def flops(self, length: int) -> float:
        """Operations of matrix products per token of a row of `length` tokens, beyond two for each
        weight."""
        ...


def count(model: nn.Module) -> Counts:
    """Count a model's parameters."""
    total = sum(value.size for _, value in tree_flatten(model.parameters()))
    modules = [module for _, module in model.named_modules()]
    idle = sum(m.idle_parameters() for m in modules if isinstance(m, Sparse))
    tables = sum(m.weight.size for m in modules if isinstance(m, nn.Embedding))
    head = _vocabulary(model)
    multiplied = {id(m.weight): m.weight.size for m in modules if isinstance(m, nn.Embedding)}
    tied = multiplied.get(id(head), 0) if isinstance(head, mx.array) else 0
    trainable = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    return Counts(total, total - idle, tables - tied, trainable)


def _vocabulary(model: Any) -> Any:
    """The weights of the last linear layer before the logits, if the model has one."""
    try:
        return model.unembedding().weight
    except AttributeError:
        return None


def flops_per_token(model: nn.Module, length: int) -> float:
    """Floating-point operations to train on one token of a row of `length`.

    `6 · (active - embedding)`, and three times the `flops` of each block and of other modules that
    multiply activations (forward once, backward twice); Chowdhery et al. 2022 (PaLM), appendix B.
    """
    counts = count(model)
    modules = [module for _, module in model.named_modules()]
    blocks = [module for module in modules if isinstance(module, BlockModule)]
    beyond_weights = sum(block.config.flops(block.dim, length) for block in blocks)
    beyond_weights += sum(m.flops(length) for m in modules if isinstance(m, Multiplying))
    return 6.0 * (counts.active - counts.embedding) + 3.0 * float(beyond_weights)
