"""One rollout: prompts completed by the policy, rewarded, and scored as the trainer sees them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import mlx.core as mx
import numpy as np

from ..core.errors import RecipeError, RunError
from ..data.batches.prompts import decoded, prompt_records
from ..data.order import Order
from ..data.shards import Split
from ..decode.continuous import Completion, ContinuousEngine
from ..decode.sample import Sampling
from ..models.model import Decodable
from ..objectives.objective import ADAPTER_OFF
from ..ops.policy import kl_estimate
from ..trainer.source import RunParts
from .response import Judge, Response
from .rewards import Rewards
from .scoring import Scored, Scorer

if TYPE_CHECKING:
    from .rollouts import Rollouts

EVAL_NUMBER = 1 << 31
"""Seeds of evaluations; training never reaches it."""


@dataclass(frozen=True)
class Rollout:
    """Completions with their rewards and log-probabilities.

    Attributes:
        scored: all that a learning signal reads.
        stats: measurements for the log.
        sample: a prompt with its completion and its reward, as text.
    """

    scored: Scored
    stats: dict[str, float]
    sample: str


class Sampler:
    """Makes rollouts with the live weights of the policy, or those of `writer`."""

    def __init__(self, config: "Rollouts", parts: RunParts, split: Split, *, greedy: bool) -> None:
        """
        Raises:
            RecipeError: the model generates no text, or has no value function for the signal.
            DataError: the split has no prompts.
        """
        model = parts.models["model"]
        writer = model if config.writer is None else parts.frozen["writer"].model
        if not isinstance(writer, Decodable):
            raise RecipeError("source 'rollouts' samples text, and this model generates none.")
        self.config, self.parts = config, parts
        self.group = 1 if greedy else config.group
        self.revise = None if greedy else config.revise
        self.records = prompt_records(parts.data, split)
        shuffle = parts.settings.shuffle and not greedy
        self._order = Order(len(self.records), parts.train.seed, shuffle)
        self.temperature = config.eval_temperature if greedy else config.temperature
        tokenizer = parts.data.tokenizer
        self.engine = ContinuousEngine(
            writer,
            rows=config.rows,
            sampling=Sampling(self.temperature, config.top_p, config.top_k),
            vocab_size=min(tokenizer.vocab_size, writer.vocab_size),
        )
        self._ends = frozenset(() if tokenizer.eos_id is None else (tokenizer.eos_id,))
        judges = {
            role.removeprefix("rewards."): Judge(*frozen)
            for role, frozen in parts.frozen.items()
            if role.startswith("rewards.")
        }
        self.rewards = Rewards(config.rewards, judges, config.on_error)
        rows = parts.train.batch_size
        valued = config.signal.needs_values
        if valued and "pool" not in model:
            raise RecipeError(
                f"signal '{config.signal.kind}' reads the policy's value function: set "
                "model.pool.kind = 'scalar'."
            )
        self._score: Scorer | None = None
        # other signals read log-probabilities for the KL from the reference alone
        if config.signal.needs_policy or config.reference is not None:
            self._score = Scorer(
                model,
                rows,
                temperature=config.temperature,
                valued=valued,
                forward=parts.forward,
            )
        self._reference: Scorer | None = None
        if config.reference is not None:
            off = config.reference == ADAPTER_OFF
            self._reference = Scorer(
                model if off else parts.frozen["reference"].model,
                rows,
                temperature=config.temperature,
                forward=parts.forward if off else None,
                base=off,
            )

    def __call__(self, number: int, places: Sequence[int], kl_weight: float) -> Rollout:
        """Complete the prompts at these places of the order; `number` seeds the draws.

        Raises:
            RunError: a prompt is too long, or a reward fails and the recipe says to stop.
        """
        mx.eval(self.engine.model.parameters())
        began = time.perf_counter()
        fields = [self.records[self._order.at(place)[1]] for place in places for _ in
                  range(self.group)]  # fmt: skip
        prompts = [cast(list[int], tokens.tolist()) for tokens, _ in fields]
        self._check_lengths(prompts)
        seeds = np.random.SeedSequence([self.parts.train.seed, number]).generate_state(len(prompts))
        steps = self.engine.steps
        completions = self.engine.complete(
            prompts,
            [int(seed) for seed in seeds],
            max_tokens=self.config.max_tokens,
            ends=self._ends,
        )
        sampled = time.perf_counter()
        responses = [
            self._response(prompt, completion, text)
            for prompt, completion, (_, text) in zip(prompts, completions, fields, strict=True)
        ]
        if self.revise is not None:
            completions = self._revised(responses, number)
            responses = [
                self._response(prompt, completion, text)
                for prompt, completion, (_, text) in zip(prompts, completions, fields, strict=True)
            ]
        replaced = self.rewards.replaced
        totals, by_name = self.rewards(responses)
        rewards = self._clipped(np.array(totals, np.float32), responses)
        scored = self._scored(prompts, completions, rewards, kl_weight)
        n_tokens = sum(len(c.tokens) for c in completions)
        stats = {
            **{f"reward_{name}": float(np.mean(values)) for name, values in by_name.items()},
            **_measured(scored, self._score is not None, self.config.reference is not None),
            "rollout_tokens_per_s": n_tokens / max(sampled - began, 1e-9),
            "rollout_fill": n_tokens / max((self.engine.steps - steps) * self.engine.rows, 1),
            "rollout_s": time.perf_counter() - began,
        }
        if self.revise is not None or self.config.writer is not None:
            stats.pop("sampler_gap", None)  # these texts are not what the policy sampled
        if self.config.on_error == "zero":
            stats["failed_rewards"] = float(self.rewards.replaced - replaced)
        return Rollout(scored, stats, _shown(responses[0], totals[0]))

    def _revised(self, responses: list[Response], number: int) -> list[Completion]:
        """Completions after critique and revision, cut to `max_tokens` with their end token."""
        assert self.revise is not None, "only called with a constitution"
        tokenizer, seed = self.parts.data.tokenizer, self.parts.train.seed
        room = self.engine.model.max_seq_len - self.config.max_tokens

        def complete(texts: Sequence[str], turn: int) -> list[str]:
            requests = [[*tokenizer.prefix, *tokenizer.encode(text)][-room:] for text in texts]
            drawn = np.random.SeedSequence([seed, number, turn]).generate_state(len(requests))
            completions = self.engine.complete(
                requests,
                [int(value) for value in drawn],
                max_tokens=self.config.max_tokens,
                ends=self._ends,
            )
            return [
                tokenizer.decode([t for t in c.tokens if t not in self._ends]) for c in completions
            ]

        out = []
        for text in self.revise(responses, complete, [seed, number]):
            tokens = [*tokenizer.encode(text), *self._ends][: self.config.max_tokens]
            ended = tokens[-1] in self._ends
            out.append(Completion(tokens, [0.0] * len(tokens), ended))
        return out

    def _check_lengths(self, prompts: list[list[int]]) -> None:
        longest, room = max(map(len, prompts)), self.parts.train.seq_len + 1
        if not all(prompts):
            raise RunError("A prompt has no tokens, so there is nothing to continue from.")
        if longest + self.config.max_tokens > room:
            raise RunError(
                f"A prompt has {longest} tokens, and with source.max_tokens = "
                f"{self.config.max_tokens} that is more than train.seq_len + 1 = {room}: make "
                "train.seq_len larger, or max_tokens smaller."
            )

    def _response(self, prompt: list[int], completion: Completion, text: np.ndarray) -> Response:
        record, decode = decoded(text), self.parts.data.tokenizer.decode
        written = completion.tokens[:-1] if completion.ended else completion.tokens
        shown = str(record[self.parts.settings.batch.model_dump()["prompt_key"]])
        return Response(shown, decode(written), prompt, completion.tokens, completion.ended, record)

    def _clipped(self, rewards: np.ndarray, responses: list[Response]) -> np.ndarray:
        config = self.config
        if config.score_clip is not None:
            rewards = np.clip(rewards, -config.score_clip, config.score_clip)
        if config.missing_eos_penalty and self._ends:
            ended = np.array([response.ended for response in responses])
            rewards = rewards - config.missing_eos_penalty * ~ended
        return rewards.astype(np.float32)

    def _scored(
        self,
        prompts: list[list[int]],
        completions: list[Completion],
        rewards: np.ndarray,
        kl_weight: float,
    ) -> Scored:
        shape = (len(prompts), self.parts.train.seq_len)
        tokens = np.zeros((shape[0], shape[1] + 1), np.int32)
        counted, sampler = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            start, end = len(prompt), len(prompt) + len(completion.tokens)
            tokens[row, :end] = prompt + completion.tokens
            counted[row, start - 1 : end - 1] = 1
            sampler[row, start - 1 : end - 1] = completion.logps
        zeros = np.zeros(shape, np.float32)
        own = self._score(tokens) if self._score else {"logps": zeros, "entropy": zeros}
        before = self._reference(tokens)["logps"] if self._reference else None
        kl = zeros
        if before is not None:
            both = (mx.array(own["logps"]), mx.array(before))
            kl = np.array(kl_estimate(*both, self.config.kl_estimator)) * counted
        return Scored(
            tokens=tokens,
            counted=counted,
            logps=own["logps"],
            sampler_logps=sampler,
            entropy=own["entropy"],
            rewards=rewards,
            ended=np.array([completion.ended for completion in completions]),
            group=self.group,
            kl_weight=kl_weight,
            kl=kl,
            reference_logps=before,
            values=own.get("values"),
        )


def _measured(scored: Scored, by_policy: bool, referenced: bool) -> dict[str, float]:
    """Measurements of a rollout: lengths in tokens, entropy and KL in nats."""
    counted, n = scored.counted, max(float(scored.counted.sum()), 1.0)
    by_group = scored.rewards.reshape(-1, scored.group)
    found = {
        "rollout_reward": float(scored.rewards.mean()),
        "completion_length": float(counted.sum(axis=1).mean()),
        "ended_share": float(scored.ended.mean()),
    }
    if by_policy:
        gap = np.abs(scored.logps - scored.sampler_logps)
        found["entropy"] = float((scored.entropy * counted).sum() / n)
        found["sampler_gap"] = float((gap * counted).sum() / n)
    if referenced:
        found["reference_kl"] = float((scored.kl * counted).sum(axis=1).mean())
        found["kl_weight"] = scored.kl_weight
    if scored.group > 1:
        flat = by_group.max(axis=1) == by_group.min(axis=1)
        found["flat_groups"] = float(flat.mean())
    return found


def _shown(response: Response, reward: float) -> str:
    return f"{response.prompt}{response.completion}  [reward {reward:.4g}]"


def check_flat(config: "Rollouts", rollout: Rollout) -> None:
    """Stop where no prompt's completions differ in reward, if the recipe asks for it and the signal
    reads rewards.

    Raises:
        RunError: they don't.
    """
    stops = config.on_flat == "stop" and config.signal.needs_rewards
    if stops and rollout.stats.get("flat_groups") == 1.0:
        raise RunError(
            "All completions of each prompt have the same reward "
            f"({rollout.scored.rewards[0]:.4g} for the first), so their advantages are zero and "
            "nothing is learned. Look at the rewards and the samples: too hard, too easy, or "
            "constant. source.on_flat = 'keep' trains on."
        )
