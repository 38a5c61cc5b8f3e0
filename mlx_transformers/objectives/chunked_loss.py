"""The loss over a vocabulary in chunks, and auxiliary losses on top of it."""

from dataclasses import dataclass

import mlx.core as mx

from ..core.context import Context
from ..core.cpu_streams import PARTS
from ..core.loss import Loss
from ..ops.log_probs import linear_log_probs
from ..ops.router_losses import balance_over_layers
from ..ops.xent import linear_cross_entropy
from .objective import ChunkedKind, VocabularyModel

CHUNK = 512
"""Tokens at once where the planner has not chosen: outside a run any number will do."""


@dataclass(frozen=True)
class ChunkedLoss:
    """Cross-entropy of hidden vectors against tokens, without all logits at once.

    Attributes:
        label_smoothing: share of the target that is spread evenly over the vocabulary.
        z_loss: coefficient of the squared log-partition.
        chunk: tokens whose logits are held at once.
        temperature: divides the logits of `log_probs`.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk: int = CHUNK
    temperature: float = 1.0

    @classmethod
    def of(
        cls, config: ChunkedKind, label_smoothing: float = 0.0, z_loss: float = 0.0
    ) -> "ChunkedLoss":
        """The loss in chunks of `config`."""
        chunk = CHUNK if config.chunk == "auto" else config.chunk
        return cls(label_smoothing, z_loss, chunk)

    def __call__(
        self,
        model: VocabularyModel,
        h: mx.array,
        targets: mx.array,
        weights: mx.array,
        ctx: Context,
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """The summed loss, and its parts: "loss" is without smoothing and penalty.

        Args:
            model: gives the unembedding.
            h: `[B, P + T, D]`, of which the last T predict `targets`; vectors before them belong
                to patches or a soft prompt.
            targets: `[B, T]`.
            weights: `[B, T]`.
            ctx: of the forward pass.
        """
        out, h = model.unembedding(), of_tokens(h, targets)
        if ctx.label_key is not None:
            targets = self.drawn(model, h, targets, ctx.label_key)
        total, nll, z = linear_cross_entropy(
            h.reshape(-1, h.shape[-1]),
            out.weight,
            targets.reshape(-1),
            weights.reshape(-1),
            bias=out.bias,
            softcap=out.softcap,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            chunk=rows_of_chunk(self.chunk, out.frozen, PARTS.get()),
            gradients=ctx.training,
            frozen=out.frozen,
        )
        return total, {"loss": nll, "z": z} if self.z_loss else {"loss": nll}

    def correct(
        self, model: VocabularyModel, h: mx.array, targets: mx.array, weights: mx.array
    ) -> mx.array:
        """The summed weights of those targets that have the highest logit of all tokens; arguments
        as in a call."""
        out, h = model.unembedding(), mx.stop_gradient(of_tokens(h, targets))
        rows, flat = h.reshape(-1, h.shape[-1]), targets.reshape(-1)
        best = [
            out.logits(rows[at : at + self.chunk]).argmax(axis=-1)
            for at in range(0, len(rows), self.chunk)
        ]
        right = mx.stop_gradient(mx.concatenate(best) == flat)
        return (right * weights.reshape(-1)).sum()

    def drawn(
        self, model: VocabularyModel, h: mx.array, targets: mx.array, key: mx.array
    ) -> mx.array:
        """Labels drawn from the model's predictions, in the shape of `targets`; h as in a call."""
        out, h = model.unembedding(), mx.stop_gradient(of_tokens(h, targets))
        rows = h.reshape(-1, h.shape[-1])
        starts = range(0, len(rows), self.chunk)
        keys = mx.random.split(key, len(starts))
        per_row = [
            mx.random.categorical(out.logits_upcast(rows[at : at + self.chunk]), key=k)
            for at, k in zip(starts, keys, strict=True)
        ]
        drawn = mx.concatenate(per_row).reshape(targets.shape)
        return mx.stop_gradient(drawn).astype(targets.dtype)

    def log_probs(self, model: VocabularyModel, h: mx.array, targets: mx.array) -> mx.array:
        """Log-probability (nats) of each of `targets [B, T]`, with a gradient; h as in a call."""
        out, h = model.unembedding().scaled(1 / self.temperature), of_tokens(h, targets)
        logps = linear_log_probs(
            h.reshape(-1, h.shape[-1]),
            out.weight,
            targets.reshape(-1),
            bias=out.bias,
            softcap=out.softcap,
            chunk=rows_of_chunk(self.chunk, out.frozen, PARTS.get()),
            frozen=out.frozen,
        )
        return logps.reshape(targets.shape)

    def token_log_probs(self, model: VocabularyModel, tokens: mx.array, ctx: Context) -> mx.array:
        """Log-probability (nats) of every one of `tokens [B, T + 1]` but the first, `[B, T]`."""
        h = model.hidden(model.embedded({"tokens": tokens[:, :-1]}, ctx), ctx)
        return self.log_probs(model, h, tokens[:, 1:])

    def sequence_log_probs(
        self, model: VocabularyModel, tokens: mx.array, counted: mx.array, ctx: Context
    ) -> mx.array:
        """Log-probability (nats) of the counted tokens of each row, `[B]`.

        Args:
            model: the policy.
            tokens: `[B, T + 1]`.
            counted: `[B, T]`, 1 where a predicted token counts.
            ctx: of the forward pass.
        """
        return (self.token_log_probs(model, tokens, ctx) * counted).sum(axis=1)


def rows_of_chunk(chunk: int, frozen: bool, parts: int = 1) -> int:
    """Rows of logits that each of the `parts` of a batch holds at once: its share of a chunk.

    Half of that under a frozen unembedding, since no chunk then reads and writes a gradient as
    large as its weight, and small ones are as fast.
    """
    return -(-chunk // (2 * parts if frozen else parts))


def of_tokens(x: mx.array, tokens: mx.array) -> mx.array:
    """The last T positions of `x [B, P + T, ...]`, those of `tokens [B, T]`: the ones before them
    belong to patches or a soft prompt."""
    n = tokens.shape[1]
    return x if x.shape[1] == n else x[:, -n:]


def with_aux(total: mx.array, weight: mx.array, parts: dict[str, mx.array], ctx: Context) -> Loss:
    """Add the auxiliary losses and statistics of the layers in `ctx`: each is a mean, so it counts
    `weight` times."""
    # Each product is made once: MLX 0.32 can't compile a loss and its parts that repeat it.
    collected = ctx.collected
    aux = dict(collected.aux)
    if collected.router_sums:
        together = [balance_over_layers(sums) for sums in collected.router_sums.values()]
        aux["balance"] = sum(together, aux.get("balance", mx.array(0.0)))
    sums = {name: value * weight for name, value in (aux | collected.stats).items()}
    for name in aux:
        total = total + sums[name]
    return Loss(total, weight, parts | sums)
