"""Exponential moving average (EMA) of the weights, for evaluation and use after training."""

from typing import Protocol

import mlx.core as mx
from mlx.utils import tree_map

from ..core.tree import Tree


class Average(Protocol):
    """An average of the trained weights, by which a run is judged."""

    @property
    def state(self) -> Tree:
        """The containers from which it is computed."""
        ...

    @property
    def average(self) -> Tree:
        """The averaged parameters, in the structure of those of the model."""
        ...


class Ema:
    """`average = d · average + (1 - d) · parameters` (Polyak & Juditsky 1992).

    `d` is `decay`. The average is float32. `state` holds it as `average`: capture it in
    `mx.compile`, and save it with the model.
    """

    def __init__(self, parameters: Tree, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"The decay of an EMA is at least 0 and below 1, not {decay}.")
        self.decay = decay
        self.state: dict[str, Tree] = {}
        self.restart(parameters)

    def restart(self, parameters: Tree) -> None:
        """Set the average to these parameters."""
        self.state["average"] = tree_map(lambda p: p.astype(mx.float32), parameters)
        mx.eval(self.state)

    @property
    def average(self) -> Tree:
        """The averaged parameters, in the structure of those of the model."""
        return self.state["average"]

    def update(self, parameters: Tree) -> None:
        """Move the average towards the parameters of one more step."""
        self.state["average"] = tree_map(
            lambda a, p: a + (1.0 - self.decay) * (p.astype(mx.float32) - a),
            self.state["average"],
            parameters,
        )
