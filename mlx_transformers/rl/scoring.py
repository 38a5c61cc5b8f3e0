"""Log-probabilities, entropies and values of completions, as the trainer computes them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..core.context import Context
from ..layers.adapters.switch import adapters_off
from ..objectives.chunked_loss import of_tokens
from ..objectives.objective import ActorCritic
from ..ops.policy import entropy
from ..trainer.forward import Forward

CHUNK = 1024
"""Tokens whose logits are held at once."""


@dataclass(frozen=True)
class Scored:
    """Completions of a rollout with everything that a learning signal may read, in float32.

    Attributes:
        tokens: prompts with completions, padded on the right, int32 `[N, T + 1]`.
        counted: 1 where a token of a completion is predicted, `[N, T]`.
        logps: log-probabilities under the policy as the trainer computes them, `[N, T]`; zeros, as
            `entropy`, where the signal reads none.
        sampler_logps: the same as the sampler computed them.
        entropy: of the policy at each position, `[N, T]`.
        rewards: `[N]`.
        ended: whether the end token ended it, bool `[N]`.
        group: completions of each prompt; `group` neighbours share one.
        kl_weight: coefficient of the KL from the reference in the reward.
        kl: estimate of the KL at each counted token, `[N, T]`; zeros without a reference.
        reference_logps: log-probabilities under the reference; None without one.
        values: of the policy's value function, `[N, T]`; None without one.
    """

    tokens: np.ndarray
    counted: np.ndarray
    logps: np.ndarray
    sampler_logps: np.ndarray
    entropy: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    group: int
    kl_weight: float
    kl: np.ndarray
    reference_logps: np.ndarray | None = None
    values: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Scored":
        """The completions of some rows."""
        arrays = {n: v[rows] for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays)

    @property
    def penalised(self) -> np.ndarray:
        """Rewards of sequences less the weighted KL of their tokens, `[N]`."""
        total: np.ndarray = self.rewards - self.kl_weight * (self.kl * self.counted).sum(axis=1)
        return total


Outputs = dict[str, np.ndarray]


class Scorer:
    """`scorer(tokens) -> logps, entropy, values`, each `[N, T]`, in batches of `rows`."""

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        *,
        temperature: float,
        valued: bool = False,
        forward: Forward | None = None,
        base: bool = False,
    ) -> None:
        """
        Args:
            model: a language model.
            rows: rows of a batch.
            temperature: divides the logits.
            valued: whether the model has a value function, whose values are wanted.
            forward: gives the model's parameters in the compute dtype; None takes them as they are.
            base: whether the model's adapters are switched off.
        """
        self.model, self.module = cast(ActorCritic, model), model
        self.rows, self.temperature, self.valued, self.forward = rows, temperature, valued, forward
        self.base = base
        self._run: Callable[[mx.array], dict[str, mx.array]] = mx.compile(
            self._outputs, inputs=model.state
        )

    def __call__(self, tokens: np.ndarray) -> Outputs:
        found: list[dict[str, Any]] = []
        for start in range(0, len(tokens), self.rows):
            part = tokens[start : start + self.rows]
            missing = self.rows - len(part)
            part = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            out = self._run(mx.array(part))
            mx.eval(out)
            found.append({name: np.array(value) for name, value in out.items()})
        return {
            name: np.concatenate([each[name] for each in found])[: len(tokens)] for name in found[0]
        }

    def _outputs(self, tokens: mx.array) -> dict[str, mx.array]:
        precision = nullcontext() if self.forward is None else self.forward.computing()
        with precision, adapters_off(self.module) if self.base else nullcontext():
            return self._plain(tokens)

    def _plain(self, tokens: mx.array) -> dict[str, mx.array]:
        model, ctx = self.model, Context()
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        x = model.features(model.embedded({"tokens": inputs}, ctx), ctx)
        h, out = of_tokens(model.transform(x), targets), model.unembedding()
        rows, flat = h.reshape(-1, h.shape[-1]), targets.reshape(-1)
        logps, entropies = [], []
        for at in range(0, len(rows), CHUNK):
            logits = out.logits(rows[at : at + CHUNK]).astype(mx.float32) / self.temperature
            picked = mx.take_along_axis(logits, flat[at : at + CHUNK, None], axis=-1)[:, 0]
            logps.append(picked - mx.logsumexp(logits, axis=-1))
            entropies.append(entropy(logits))
        found = {"logps": mx.concatenate(logps), "entropy": mx.concatenate(entropies)}
        found = {name: value.reshape(targets.shape) for name, value in found.items()}
        if self.valued:
            values = of_tokens(model.token_values(x, ctx), targets)
            found["values"] = values.astype(mx.float32)
        return found
