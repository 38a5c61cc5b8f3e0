"""Mixture of Depths: a block that runs on a share of the tokens of a row."""

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
from pydantic import Field

from ..core.context import Context, Layout
from ..core.shapes import BTD
from ..ops.depth_routing import binary_cross_entropy, top_tokens
from ..ops.expert_slots import Slots
from ..recipe.config import Config
from .linear import matrix

Whole = Callable[[mx.array, Context], mx.array]
"""`(x [B, T, D], ctx) -> [B, T, D]`: a block, with its residual connections."""


class Route(Config):
    """Mixture of Depths: a block runs on the tokens of a row that its router chooses.

    Raposo et al. 2024 ("Mixture-of-Depths"). Decoding computes the block for all tokens, and leaves
    out the results of those that aren't chosen.
    """

    capacity: float = Field(gt=0, le=1)
    """Share of the tokens of a row that the block runs on, at least one."""
    predictor_loss: float = Field(0.01, gt=0)
    """Coefficient of the loss of the predictor that chooses tokens in decoding. It has a gradient
    for the predictor alone."""
    predictor_dim: int | None = Field(None, ge=1)
    """Width of the predictor's hidden layer; none means that it is linear."""

    def tokens(self, length: int) -> int:
        """The number k of chosen tokens of a row."""
        return max(1, int(self.capacity * length))

    def build(self, dim: int) -> "TokenRoute":
        """The router of a block of width `dim`."""
        return TokenRoute(self, dim)


class TokenRoute(nn.Module):
    """`x + r f(x)` for the tokens that a router chooses, x for the others; f is the block without
    its residual connection.

    Raposo et al. 2024, equation 1 and section 3.5. In training the k tokens of a row with the
    largest `r = w x + b` are chosen, which depends on later tokens. Where a pass is causal and not
    training, a predictor chooses each token from itself; it learns to tell the k tokens in
    training. Published codes differ: some leave out the x of the sum, or take a sigmoid of r.
    """

    def __init__(self, config: Route, dim: int) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(dim, 1)
        inner = config.predictor_dim
        if inner is not None:
            self.predictor_in = nn.Linear(dim, inner)
        self.predictor = nn.Linear(inner or dim, 1)

    def __call__(self, x: BTD, ctx: Context, block: Whole) -> BTD:
        """Run the block on the chosen tokens of whole rows."""
        if ctx.training or not ctx.layout.causal:
            return self._best_tokens(x, ctx, block)
        rows = ctx.layout
        chosen = self._predict(x) > 0
        valid = chosen if rows.valid is None else chosen & rows.valid
        y = block(x, replace(ctx, layout=replace(rows, valid=valid)))
        ctx.collected.add_stat("routed", chosen.astype(mx.float32).mean())
        ctx.collected.observe("routed", chosen)
        return self._join(x, y, chosen)

    def step(self, x: BTD, seen: mx.array, ctx: Context, block: Whole) -> tuple[mx.array, mx.array]:
        """Continue every row by T tokens, those that aren't chosen leave no key.

        Args:
            x: `[B, T, D]`.
            seen: `[B, S]`, the positions that have left keys.
            ctx: of the step.
            block: takes the step.

        Returns:
            The output `[B, T, D]`, and `seen` after the step.
        """
        chosen = self._predict(x) > 0
        start = mx.array(ctx.cursor.offset).reshape(1)
        seen = mx.slice_update(seen, chosen, start, axes=(1,))
        y = block(x, replace(ctx, cursor=replace(ctx.cursor, seen=seen)))
        return self._join(x, y, chosen), seen

    def _best_tokens(self, x: mx.array, ctx: Context, block: Whole) -> mx.array:
        """Run on the tokens with the largest scores, in a shorter row."""
        scores, valid = self._scores(x), ctx.layout.valid
        ranked = scores if valid is None else mx.where(valid, scores, -mx.inf)
        slots = top_tokens(ranked, self.config.tokens(x.shape[1]))
        rows = slots.gather(x).reshape(x.shape[0], -1, x.shape[-1])
        inner = block(rows, replace(ctx, layout=shortened(ctx.layout, slots)))
        gates = scores if valid is None else mx.where(valid, scores, 0.0)
        if ctx.training:
            chosen = slots.kept()[..., 0]
            logits = self._predict(mx.stop_gradient(x))
            loss = binary_cross_entropy(logits, chosen, valid)
            ctx.collected.add_aux("predictor", self.config.predictor_loss * loss)
            right = (logits > 0) == chosen
            ctx.collected.add_stat("predictor_accuracy", right.astype(mx.float32).mean())
        return x + slots.combine((inner - rows).reshape(1, -1, x.shape[-1]), gates[..., None])

    def _join(self, x: mx.array, y: mx.array, chosen: mx.array) -> mx.array:
        """`x + r (y - x)` where a token is chosen, x elsewhere."""
        weighed = self._scores(x)[..., None].astype(x.dtype) * (y - x)
        return mx.where(chosen[..., None], x + weighed, x)

    def _scores(self, x: mx.array) -> mx.array:
        """The router's scores r, `[B, T]` float32."""
        bias: mx.array = self.router.bias
        scores = x.astype(mx.float32) @ matrix(self.router)[0].astype(mx.float32)
        return scores + bias.astype(mx.float32)

    def _predict(self, x: mx.array) -> mx.array:
        """Logits `[B, T]` of whether a token is among the chosen ones."""
        if "predictor_in" in self:
            x = mx.maximum(self.predictor_in(x), 0)
        logits: mx.array = self.predictor(x)[..., 0].astype(mx.float32)
        return logits


def shortened(rows: Layout, slots: Slots) -> Layout:
    """The layout of the rows that hold the chosen tokens alone, with their positions."""
    token = slots.token[:, 0]
    T = slots.row.shape[1]
    places = mx.broadcast_to(mx.arange(T), slots.row.shape[:2])

    def take(array: mx.array | None) -> mx.array | None:
        return None if array is None else mx.take_along_axis(array, token, axis=1)

    prefix = rows.prefix
    return replace(
        rows,
        positions=take(places if rows.positions is None else rows.positions),
        segments=take(rows.segments),
        valid=take(rows.valid),
        types=take(rows.types),
        prefix=None if prefix is None else (token < prefix[:, None]).sum(axis=1),
    )
