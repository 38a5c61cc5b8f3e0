"""Runs as models of the lm-evaluation-harness, which asks for log-likelihoods and for texts.

import lm_eval
from mlx_transformers.verbs.lm_eval import harness

print(lm_eval.simple_evaluate(model=harness("runs/mistral_tiny"), tasks=["lambada_openai"]))

Gao et al., "A framework for few-shot language model evaluation"; its interface is `LM` in
lm_eval/api/model.py. Nothing of it is needed but to be called by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from ..assembly.saved import load
from ..core.errors import RunError
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.generate import generate
from ..decode.sample import Sampling

BATCH = 8
"""Texts that are read at once."""
MAX_TOKENS = 256
"""Tokens of an answer where the harness names no limit."""
KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p"}
"""Options of `generate_until` that have an effect."""


class Request(Protocol):
    """What the harness asks, as far as it is read here."""

    args: tuple[Any, ...]


@dataclass(frozen=True)
class Window:
    """Tokens that the model reads at once, of which it is asked for the last `asked`."""

    tokens: list[int]
    asked: int


class Answers:
    """A decoder that answers the harness's three questions.

    Where the tokenizer has no token that begins a document, nothing comes before the first token of
    a text, and that token is not scored.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        """Raises RunError where the model doesn't continue texts."""
        super().__init__()
        if "causal_lm" not in model.tasks:
            raise RunError(
                "The harness measures models that continue a text, and this run's is none: "
                "mlxt eval --task measures it."
            )
        self.model, self.tokenizer = model, tokenizer
        begins = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        self.before = [] if begins is None else [begins]

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of `(context, continuation)`: `log p(continuation | context)` in nats, and whether each
        of its tokens is the likeliest."""
        return self._scores([self._continued(*request.args) for request in requests])

    def loglikelihood_rolling(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[float]:
        """Of `(text,)`: `log p(text)` in nats, where each token is seen behind as many others as
        windows of the model's context allow."""
        windows = [
            rolled(self.before, self.tokenizer.encode(request.args[0]), self.model.max_seq_len)
            for request in requests
        ]
        scores = iter(self._scores([window for text in windows for window in text]))
        return [float(sum(next(scores)[0] for _ in text)) for text in windows]

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Of `(context, options)`: what follows, up to the first of the strings `until`.

        Raises:
            RunError: an option that isn't known.
        """
        return [self._written(*request.args) for request in requests]

    def _continued(self, context: str, continuation: str) -> Window:
        # A space at the seam belongs to the word after it, as tokenizers have it.
        bare = context.rstrip()
        bare, continuation = bare, context[len(bare) :] + continuation
        if not bare:
            bare, first = "", self.before
            tokens = self.tokenizer.encode(continuation)
        else:
            first = self.tokenizer.encode(bare)
            tokens = self.tokenizer.encode(bare + continuation)[len(first) :]
        longest = self.model.max_seq_len
        if len(tokens) > longest:
            raise RunError(
                f"A continuation of {len(tokens):,} tokens is longer than the model's context of "
                f"{longest:,}."
            )
        return Window([*first, *tokens][-longest - 1 :], len(tokens))

    def _written(self, context: str, options: dict[str, Any]) -> str:
        if unknown := sorted(set(options) - KNOWN):
            raise RunError(
                f"generate_until has the option '{unknown[0]}', which has no effect here. Known: "
                f"{', '.join(sorted(KNOWN))}."
            )
        sampled = options.get("do_sample", False)
        temp = options.get("temperature", 1.0) if sampled else 0.0
        until = options.get("until") or ()
        longest = self.model.max_seq_len
        limit = min(options.get("max_gen_toks", MAX_TOKENS), longest - 1)
        tokens = self.tokenizer.encode(context) or self.before
        return generate(
            self.model,
            self.tokenizer,
            tokens[-(longest - limit) :],
            max_tokens=limit,
            sampling=Sampling(temp, options.get("top_p", 1.0), options.get("top_k", 0)),
            stop=until,
        )

    def _scores(self, windows: list[Window]) -> list[tuple[float, bool]]:
        """The log-probability of each window's last tokens, and whether all are the likeliest."""
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i].tokens))
        found: dict[int, tuple[float, bool]] = {}
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            found |= zip(numbers, self._batch([windows[i] for i in numbers]), strict=True)
        return [found[i] for i in range(len(windows))]

    def _batch(self, windows: list[Window]) -> list[tuple[float, bool]]:
        width = max(len(window.tokens) for window in windows)
        # What is added behind a text changes nothing before it.
        rows = [window.tokens + [0] * (width - len(window.tokens)) for window in windows]
        tokens = mx.array(rows, dtype=mx.int32)
        if width < 2:
            return [(0.0, True)] * len(windows)
        logits = self.model(tokens[:, :-1]).astype(mx.float32)
        targets = tokens[:, 1:, None]
        log_p = mx.take_along_axis(logits, targets, axis=-1)[..., 0]
        log_p = log_p - mx.logsumexp(logits, axis=-1)
        likeliest = logits.argmax(axis=-1) == targets[..., 0]
        out = []
        for i, window in enumerate(windows):
            end = len(window.tokens) - 1
            asked = slice(max(0, end - window.asked), end)
            out.append((float(log_p[i, asked].sum()), bool(likeliest[i, asked].all())))
        return out


def rolled(before: list[int], tokens: list[int], longest: int) -> list[Window]:
    """Windows that ask for each token of a text once; each reads `longest` tokens where it can."""
    whole, done = [*before, *tokens], len(before)
    # Without a token before it, the first one is read and not asked for.
    end, windows = longest + 1, []
    while done < len(whole):
        end = min(end, len(whole))
        windows.append(Window(whole[max(0, end - longest - 1) : end], end - done))
        done, end = end, end + longest
    return windows


def harness(run: str | Path | None = None) -> Any:
    """A run as a model that `lm_eval.simple_evaluate(model=...)` takes.

    Args:
        run: a run's name or folder, or one of its checkpoints; None is the newest run.

    Raises:
        MlxtError: there is no such run, it continues no text, or lm_eval is absent.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError:
        raise RunError("The harness is not there: pip install 'mlxt[harness]'.") from None
    return type("Run", (Answers, LM), {})(*load(run))
