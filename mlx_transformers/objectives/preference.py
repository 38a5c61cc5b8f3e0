"""Names of the losses of pairs, and the table of objectives that compare with a reference."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

import mlx.nn as nn
from pydantic import Field

from ..core.loss import Unit
from ..core.task import Task
from ..layers.adapters.switch import adapters_off
from .objective import ADAPTER_OFF, ChunkedKind, VocabularyModel, run_of_reference

PairLoss = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
]
"""Losses of pairs relative to a reference, those of the objective `dpo`, by TRL's names."""

ReferenceFreeLoss = Literal["orpo", "simpo", "cpo"]
"""Losses of pairs that have no place for a reference, those of the objective `orpo`."""


class PreferenceKind(ChunkedKind):
    """An objective of labelled completions, whose rewards are `beta (log p - log p_reference)`."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"causal_lm"})
    unit: ClassVar[Unit] = "text"
    reference: str | None = None
    """Run of the reference policy, by name or folder; its best checkpoint. "adapter_off" is the
    policy without its adapters (`[adapt]`), which needs no second model. Unset: no reference, as if
    all completions were equally likely before."""
    beta: float = Field(0.1, gt=0)
    """Coefficient β of the implicit KL penalty towards the reference policy."""

    def frozen(self) -> dict[str, str]:
        return run_of_reference(self.reference)


@contextmanager
def reference_of(
    models: Mapping[str, VocabularyModel], reference: str
) -> Iterator[VocabularyModel]:
    """Yield the reference policy: a model of its own, or the policy while its adapters are off."""
    if reference != ADAPTER_OFF:
        yield models["reference"]
        return
    policy = models["model"]
    assert isinstance(policy, nn.Module), "a policy is a module"
    with adapters_off(policy):
        yield policy
