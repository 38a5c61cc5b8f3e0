"""BitFit: the biases of a model are trained, and nothing else."""

from typing import Literal

import mlx.nn as nn

from .adapter import AdapterKind, Biases
from .switch import Adaptation


class BitFit(AdapterKind):
    """Training of biases alone.

    Ben Zaken et al. 2021, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
    Masked Language-models", section 3. Nothing is added to the model; a new head goes to `train`.
    """

    kind: Literal["bitfit"] = "bitfit"

    def attach(self, model: nn.Module, adaptation: Adaptation) -> None:
        """Nothing: the base's own biases are trained."""

    def trained_biases(self) -> Biases:
        return "all"
