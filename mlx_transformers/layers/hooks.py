"""Modules that change their own state after each optimizer step."""

from abc import ABC, abstractmethod

import mlx.core as mx
import mlx.nn as nn

from ..core.context import Context


class AfterStep(ABC):
    """A module with state that no gradient moves, such as the balance of a router.

    It reports statistics during training passes and is called with them after the step.
    """

    label: str = ""
    """The module's path in the model it is trained in; nothing is reported without one."""

    def report(self, ctx: Context, name: str, value: mx.array) -> None:
        """Pass a statistic of this pass, its mean per token, to `after_step`."""
        if self.label and ctx.training:
            ctx.collected.add_stat(f"{self.label}:{name}", value)

    @abstractmethod
    def after_step(self, stats: dict[str, mx.array], finite: mx.array) -> None:
        """Update the module's state, inside the compiled step.

        Called once for each pass of the module through the model, so twice where two layers share
        its weights.

        Args:
            stats: what the module reported, averaged over all tokens of the step.
            finite: bool scalar, false for a step that is skipped; the state must stay then.
        """


class Hooks:
    """The hooks of a model: labels them, and calls them after a step."""

    def __init__(self, model: nn.Module) -> None:
        modules = sorted(model.named_modules(), key=lambda item: item[0])
        self.modules = {path: child for path, child in modules if isinstance(child, AfterStep)}
        for path, module in self.modules.items():
            module.label = path

    def __call__(self, stats: dict[str, mx.array], finite: mx.array) -> dict[str, mx.array]:
        """Call every hook that reported something; return the statistics that are for the log.

        Args:
            stats: statistics of the step by name. Stacks add the number of the layer behind a
                slash to the names that a module reports.
            finite: whether the step's gradients were finite.
        """
        passes: dict[tuple[str, str], dict[str, mx.array]] = {}
        logged = {}
        for name, value in stats.items():
            label, reported, rest = name.partition(":")
            if not reported or label not in self.modules:
                logged[name] = value
                continue
            stat, _, layer = rest.partition("/")
            passes.setdefault((label, layer), {})[stat] = value
        for (label, _), sums in passes.items():
            self.modules[label].after_step(sums, finite)
        return logged
