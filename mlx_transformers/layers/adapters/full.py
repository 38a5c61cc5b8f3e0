"""Full fine-tuning of chosen weights: nothing is added, and checkpoints hold those alone."""

from typing import Literal

import mlx.nn as nn
from pydantic import Field

from .adapter import AdapterKind
from .switch import Adaptation


class Full(AdapterKind):
    """Training of whole weights, those that `train` names, over a frozen rest.

    By default it trains all of them. Without `[adapt]` the same is trained, and checkpoints hold
    frozen weights too (`train.freeze`).
    """

    kind: Literal["full"] = "full"
    train: list[str] = Field(default_factory=lambda: ["*"])
    """Modules or parameters that are trained, by path; `*` matches as in file names."""

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        """Nothing: the base's own weights are trained."""
