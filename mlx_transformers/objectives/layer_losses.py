"""Distillation of a teacher's embeddings, hidden states, attention, and relations."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import mlx.core as mx
from pydantic import Field

from ..core.context import Collected, Context, Layout
from ..core.errors import RecipeError
from ..ops.masks import Mask
from ..ops.relations import attention_divergence, relation_divergence, score_difference
from ..recipe.config import Config
from .objective import TaughtModel

Parts = dict[str, mx.array]
PerToken = Callable[..., mx.array]
"""A loss of the student's array against the teacher's, `[B, T]`."""
Target = Literal["attention", "queries", "keys", "values"]


class Relations(Config):
    """Relations in the attention of the student's last layer, against a layer of the teacher.

    Wang et al. 2020 (MiniLM): attention distributions and value relations. Wang et al. 2021
    (MiniLMv2): relations of queries, keys and values, in `heads` relation heads. Depth and width
    may differ.
    """

    weight: float = Field(1.0, gt=0)
    """Weight of the sum of the targets' losses."""
    of: tuple[Target, ...] = ("attention", "values")
    """The targets; for `attention` both models need as many query heads."""
    heads: int | None = Field(None, ge=1)
    """Relation heads, a divisor of both models' concatenated widths; none means the attention's own
    heads, as many in both."""
    teacher_layer: int | None = Field(None, ge=1)
    """The teacher's layer, from 1; none means the last."""


class LayerLosses:
    """The losses between arrays of two models' layers, collected during their passes and summed
    after.

    Attributes:
        weights: weights of `layers`, `attention` and `embeddings` by name.
        relations: the table of relations, or None.
    """

    def __init__(self, weights: Mapping[str, float], relations: Relations | None) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.relations = relations

    def request(self, ctx: Context, teacher_ctx: Context) -> None:
        """Have both passes capture the arrays that the losses read."""
        if not self.weights and self.relations is None:
            return
        of = () if self.relations is None else self.relations.of
        related = tuple("scores" if name == "attention" else name for name in of)
        everywhere = ("scores",) if "attention" in self.weights else ()

        def student(layer: int, n_layers: int) -> frozenset[str]:
            return frozenset((*everywhere, *(related if layer == n_layers - 1 else ())))

        def teacher(layer: int, n_layers: int) -> frozenset[str]:
            # a captured array that is not read is never computed
            return frozenset((*everywhere, *related))

        for pass_ctx, requests in ((ctx, student), (teacher_ctx, teacher)):
            pass_ctx.collected.layers, pass_ctx.collected.requests = [], requests

    def __call__(
        self,
        models: tuple[TaughtModel, TaughtModel],
        inputs: tuple[mx.array, mx.array],
        contexts: tuple[Context, Context],
        counted: mx.array,
    ) -> tuple[mx.array, Parts]:
        """The weighted sum of all losses over the counted tokens, and each by name.

        Args:
            models: student and teacher.
            inputs: their embedded inputs, `[B, T, D]`.
            contexts: those of their passes.
            counted: weights `[B, T]` of the tokens that are compared.

        Raises:
            RecipeError: the models don't fit each other.
        """
        parts: Parts = {}
        student, teacher = (pass_ctx.collected for pass_ctx in contexts)
        depths = len(student.layers or []), len(teacher.layers or [])
        pairs = _pairs(*depths) if self.pairs_layers else []
        if "embeddings" in self.weights:
            parts["embeddings"] = _difference("embeddings", models[0], *inputs)
        if "layers" in self.weights:
            outputs = [((student.layers or [])[i], (teacher.layers or [])[j]) for i, j in pairs]
            losses = [_difference("layers", models[0], *pair) for pair in outputs]
            parts["layers"] = sum(losses[1:], losses[0]) / len(losses)
        if "attention" in self.weights:
            losses = [
                recomputed(score_difference, *_captured("scores", student, i, teacher, j))
                for i, j in pairs
            ]
            parts["attention"] = sum(losses[1:], losses[0]) / len(losses)
        weights = dict(self.weights)
        if self.relations is not None:
            last = (depths[0] - 1, self._teacher_layer(depths[1] - 1))
            parts["relations"] = self._related(student, teacher, last, contexts[0].layout)
            weights["relations"] = self.relations.weight
        n = counted.shape[1]  # behind a soft prompt
        parts = {name: (part[:, -n:] * counted).sum() for name, part in parts.items()}
        total = sum((weights[name] * part for name, part in parts.items()), mx.zeros(()))
        return total, parts

    @property
    def pairs_layers(self) -> bool:
        """Whether any loss compares layers one by one."""
        return bool({"layers", "attention"} & self.weights.keys())

    def _teacher_layer(self, last: int) -> int:
        assert self.relations is not None
        layer = self.relations.teacher_layer
        if layer is not None and layer > last + 1:
            raise RecipeError(
                f"objective.relations.teacher_layer = {layer}, and the teacher has {last + 1} "
                "layers."
            )
        return last if layer is None else layer - 1

    def _related(
        self, student_side: Collected, teacher_side: Collected, at: tuple[int, int], layout: Layout
    ) -> mx.array:
        """The sum of the losses of all targets, `[B, T]`."""
        assert self.relations is not None
        total = mx.zeros(())
        heads = self.relations.heads
        mask = Mask(layout.causal, None, layout.segments, layout.valid, prefix=layout.prefix)
        for name in self.relations.of:
            if name == "attention":
                pair = _captured("scores", student_side, at[0], teacher_side, at[1])
                total = total + recomputed(attention_divergence, *pair)
                continue
            student, teacher = _captured(
                name, student_side, at[0], teacher_side, at[1], alike=heads is None
            )
            for x in (student, teacher):
                width = x.shape[1] * x.shape[3]
                if heads is not None and width % heads:
                    raise RecipeError(
                        f"objective.relations.heads = {heads} doesn't divide the {name} of one of "
                        f"the models, which are {width} wide in all: take a divisor of both widths."
                    )
            length = student.shape[2]
            loss = partial(relation_divergence, seen=mask.array(length, length), heads=heads)
            total = total + recomputed(loss, student, teacher)
        return total


def recomputed(loss: PerToken, student: mx.array, teacher: mx.array) -> mx.array:
    """A loss of the student's array, whose arrays of `[T, T]` are computed again in the backward
    pass in place of being saved."""
    teacher = mx.stop_gradient(teacher)
    value: mx.array = mx.checkpoint(lambda array: loss(array, teacher))(student)
    return value


def _pairs(n: int, m: int) -> list[tuple[int, int]]:
    """Layers of a student with N, each with the one of M that teaches it: `m · M / N`, rounded up.

    Raises:
        RecipeError: the student has more layers, or none of them can be compared.
    """
    if not 0 < n <= m:
        raise RecipeError(
            f"objective.layers and objective.attention compare the {n} layers of the model with "
            f"the {m} of its teacher: take a teacher with as many or more, or unset them."
        )
    return [(i - 1, math.ceil(i * m / n) - 1) for i in range(1, n + 1)]


def _captured(
    name: str, student: Collected, i: int, teacher: Collected, j: int, alike: bool = True
) -> tuple[mx.array, mx.array]:
    """The arrays captured from layer i of the student and layer j of the teacher.

    Raises:
        RecipeError: one of them has none, or they have unlike numbers of heads.
    """
    arrays = []
    for whose, collected, layer in (("model", student, i), ("teacher", teacher, j)):
        if f"{name}/{layer}" not in collected.captured:
            raise RecipeError(
                f"Layer {layer + 1} of the {whose} has no softmax attention to capture "
                f"{name} from: unset objective.attention and objective.relations."
            )
        arrays.append(collected.captured[f"{name}/{layer}"])
    if alike and arrays[0].shape[1] != arrays[1].shape[1]:
        raise RecipeError(
            f"The {name} of the model have {arrays[0].shape[1]} heads and those of its teacher "
            f"{arrays[1].shape[1]}: give both as many, or compare relations with "
            "objective.relations.heads."
        )
    return arrays[0], arrays[1]


def _difference(key: str, model: TaughtModel, student: mx.array, teacher: mx.array) -> mx.array:
    """The mean squared difference of vectors `[B, T]`, of the student's after its projection.

    Raises:
        RecipeError: they have unlike widths.
    """
    projected = model.toward_teacher(student)
    if (width := projected.shape[-1]) != (theirs := teacher.shape[-1]):
        raise RecipeError(
            f"objective.{key} compares vectors of width {width} with the teacher's, which have "
            f"{theirs}: set model.teacher_dim = {theirs}, or objective.{key} to 0."
        )
    difference = (projected - mx.stop_gradient(teacher)).astype(mx.float32)
    return difference.square().mean(axis=-1)
