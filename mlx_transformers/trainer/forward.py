"""The loss of a batch: the one forward pass of training, evaluation, dry run and profile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..core.context import Context
from ..core.loss import Loss
from ..core.tree import Tree
from ..layers.adapters.switch import adapter_dropout
from ..layers.parameter import parameters_of
from ..models.model import Model
from ..objectives.objective import Objective

Batch = dict[str, mx.array]
Rounding = Callable[[Tree, Tree, mx.array | None], Tree]
"""`(params, held, progress) -> params` that the pass computes with: `held` are all parameters of
the model, frozen ones too; progress is None in evaluation."""


class Forward:
    """`forward(params, batch, ctx) -> Loss`, computed in the precision of `train.dtype`.

    Mixed precision: Micikevicius et al. 2018, section 3.1.

    Attributes:
        model: the model that is trained.
        roles: the models that the objective reads, by role: "model" and, for distillation, its
            frozen teacher.
        dtype: precision of the model's parameters in the pass. Master weights stay float32.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective[Model],
        dtype: mx.Dtype = mx.float32,
        frozen: dict[str, Model] | None = None,
        rounding: Rounding | None = None,
    ) -> None:
        self.model = model
        self.rounding = rounding
        self.objective = objective
        self.dtype = dtype
        self.roles = {"model": model, **(frozen or {})}

    def __call__(self, params: Tree, batch: Batch, ctx: Context) -> Loss:
        """Return the loss with `params` in place of the model's parameters of the same names.

        Parameters that are not in `params`, the frozen ones, keep their values. The model is left
        as it was found.
        """
        if self.rounding is not None:
            params = self.rounding(params, self.model.parameters(), ctx.scalars.get("progress"))
        with self.computing(params), adapter_dropout(self.model, ctx):
            return self.objective(self.roles, batch, ctx)

    @contextmanager
    def computing(self, params: Tree | None = None) -> Iterator[None]:
        """Give the model its parameters in the compute dtype, those in `params` replaced; the
        model is left as it was found."""
        original = self.model.parameters()
        replaced = {} if params is None else params
        self.model.update(replaced if self.dtype == mx.float32 else self._cast(replaced))
        try:
            yield
        finally:
            self.model.update(original)

    def _cast(self, params: Tree) -> Tree:
        """Cast all floating-point parameters, frozen ones too, but for those of role `own`."""
        values = dict(tree_flatten(self.model.parameters())) | dict(tree_flatten(params))
        uncast = {
            parameter.path for parameter in parameters_of(self.model) if parameter.role == "own"
        }

        def one(name: str, value: mx.array) -> mx.array:
            floating = mx.issubdtype(value.dtype, mx.floating)
            return value.astype(self.dtype) if floating and name not in uncast else value

        return tree_unflatten([(name, one(name, value)) for name, value in values.items()])
