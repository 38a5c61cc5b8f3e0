"""How many parameters a model has, how many a token meets, and what that costs."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, each array once.

    Attributes:
        total: all of them.
        active: those that one token meets: experts that are not chosen are left out.
        embedding: those that are only looked up; a tied table also multiplies and doesn't count.
    """

    total: int
    active: int
    embedding: int


def count(model: nn.Module) -> Counts:
    """Count a model's parameters.

    A module of which a token meets a part says so with `idle_parameters()`.
    """
    total = sum(value.size for _, value in tree_flatten(model.parameters()))
    modules = [module for _, module in model.named_modules()]
    idle = sum(m.idle_parameters() for m in modules if hasattr(m, "idle_parameters"))
    tables = sum(m.weight.size for m in modules if isinstance(m, nn.Embedding))
    head = _vocabulary(model)
    multiplied = {id(m.weight): m.weight.size for m in modules if isinstance(m, nn.Embedding)}
    tied = multiplied.get(id(head), 0) if isinstance(head, mx.array) else 0
    return Counts(total, total - idle, tables - tied)


def _vocabulary(model: Any) -> Any:
    """What multiplies the vectors of a head over the vocabulary, where a model has one."""
    try:
        return model.unembedding().weight
    except AttributeError:
        return None


def flops_per_token(model: nn.Module, length: int) -> float:
    """Floating-point operations to train on one token of a row of `length`.

    `6 · (active - embedding)`, and three times each mixer's own (forward once, backward twice);
    Chowdhery et al. 2022 (PaLM), appendix B. Mixers say theirs with `flops(length)`.
    """
    counts = count(model)
    mixers = [m for _, m in model.named_modules() if hasattr(m, "flops")]
    return 6.0 * (counts.active - counts.embedding) + 3.0 * sum(m.flops(length) for m in mixers)
