"""What objectives over a vocabulary share: the head's loss in chunks, and the sums that leave."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss
from ..ops.xent import linear_cross_entropy


@dataclass(frozen=True)
class Vocabulary:
    """Cross-entropy of hidden vectors against tokens, never with all logits at once."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk: int = 512

    @classmethod
    def of(cls, config: Any) -> "Vocabulary":
        """As a config's `label_smoothing`, `z_loss` and `chunk` say, where it has them."""
        # "auto" is settled before a run; elsewhere any will do.
        chunk = 512 if config.chunk == "auto" else config.chunk
        smoothing = getattr(config, "label_smoothing", 0.0)
        return cls(smoothing, getattr(config, "z_loss", 0.0), chunk)

    def __call__(
        self, model: Any, h: mx.array, targets: mx.array, weights: mx.array, ctx: Context
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The summed loss of h `[..., D]`, and its parts: "loss" without smoothing and penalty."""
        out = model.unembedding()
        total, nll, z = linear_cross_entropy(
            h.reshape(-1, h.shape[-1]),
            out.weight,
            targets.reshape(-1),
            weights.reshape(-1),
            bias=out.bias,
            softcap=out.softcap,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            chunk=self.chunk,
            gradients=ctx.training,
        )
        return total, {"loss": nll, "z": z} if self.z_loss else {"loss": nll}


def summed(total: mx.array, weight: mx.array, parts: dict[str, mx.array], ctx: Context) -> Loss:
    """The loss with what the layers left in `ctx`: auxiliary losses are means, so each counts
    `weight` times."""
    # Each product is made once: MLX 0.32 can't compile a loss and its parts that repeat it.
    sums = {
        name: value * weight for name, value in (ctx.collected.aux | ctx.collected.stats).items()
    }
    for name in ctx.collected.aux:
        total = total + sums[name]
    return Loss(total, weight, parts | sums)
