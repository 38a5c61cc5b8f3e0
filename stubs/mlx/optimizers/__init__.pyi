"""Types of the parts of mlx.optimizers that the package uses."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.nn import Module

Schedule = Callable[[mx.array], mx.array]
Rate = float | Schedule

class Optimizer:
    _initialized: bool
    _state: dict[str, Any]
    _schedulers: dict[str, Schedule]
    def __init__(self, schedulers: dict[str, Schedule] | None = None) -> None: ...
    def init(self, parameters: dict[str, Any]) -> None: ...
    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None: ...
    def update(self, model: Module, gradients: dict[str, Any]) -> None: ...
    def apply_gradients(
        self, gradients: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]: ...
    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array: ...
    def _maybe_schedule(self, name: str, param: float | mx.array | Schedule) -> None: ...
    @property
    def state(self) -> dict[str, Any]: ...
    @state.setter
    def state(self, state: dict[str, Any]) -> None: ...
    @property
    def step(self) -> mx.array: ...
    @property
    def learning_rate(self) -> mx.array: ...
    @learning_rate.setter
    def learning_rate(self, learning_rate: float | mx.array) -> None: ...

class MultiOptimizer(Optimizer):
    optimizers: list[Optimizer]
    def __init__(
        self, optimizers: list[Optimizer], filters: list[Callable[[str, mx.array], bool]] = ...
    ) -> None: ...

class SGD(Optimizer):
    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ) -> None: ...

class Adam(Optimizer):
    betas: list[float]
    eps: float
    bias_correction: bool
    def __init__(
        self,
        learning_rate: Rate,
        betas: list[float] = ...,
        eps: float = 1e-8,
        bias_correction: bool = False,
    ) -> None: ...

class AdamW(Adam):
    weight_decay: float
    def __init__(
        self,
        learning_rate: Rate,
        betas: list[float] = ...,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        bias_correction: bool = False,
    ) -> None: ...

class Lion(Optimizer):
    def __init__(
        self, learning_rate: Rate, betas: list[float] = ..., weight_decay: float = 0.0
    ) -> None: ...

class Adafactor(Optimizer):
    def __init__(
        self,
        learning_rate: Rate | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta_1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ) -> None: ...

class Muon(Optimizer):
    momentum: float
    weight_decay: float
    nesterov: bool
    ns_steps: int
    def __init__(
        self,
        learning_rate: Rate,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        nesterov: bool = True,
        ns_steps: int = 5,
    ) -> None: ...
