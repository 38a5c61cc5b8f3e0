"""Generating text: `generate` for the whole of it, `stream` for pieces as they come.

from mlx_transformers import generate, load

model, tokenizer = load("runs/mistral_tiny")
print(generate(model, tokenizer, "ROMEO:", max_tokens=200))
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx

from ..core.device import GIB
from ..core.errors import RunError
from ..data.tokenizers.stream import StreamDecoder
from ..data.tokenizers.tokenizer import Tokenizer
from .cache_size import state_bytes
from .engine import Decodable, Engine
from .sample import Sampling
from .stats import EndReason, Stats
from .stop import StopStrings

MAX_SEED = 2**63 - 1
SAMPLE_TOKENS = 120
"""Tokens of a sample while training."""


def generate(
    model: Decodable, tokenizer: Tokenizer, prompt: str | list[int], **options: Any
) -> str:
    """The text that follows `prompt`. Options and errors are those of `stream`."""
    return "".join(stream(model, tokenizer, prompt, **options))


def sampler(model: Decodable, tokenizer: Tokenizer, prompt: str) -> Callable[[], str]:
    """Makes short texts that begin with `prompt`, as a run writes them while it trains."""
    sampling = Sampling(temp=0.8, top_p=0.95)

    def sample() -> str:
        found = generate(model, tokenizer, prompt, max_tokens=SAMPLE_TOKENS, sampling=sampling)
        return prompt + found

    return sample


def stream(
    model: Decodable,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    *,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
) -> "Stream":
    """The text that follows `prompt`, piece by piece; its numbers are in `.stats`.

    It ends with the tokenizer's end-of-document token, before the first of the strings `stop`,
    after `max_tokens`, or where the model's context is full. The same seed gives the same text.
    An empty prompt is the begin-of-document token.

    Raises:
        RunError: the prompt has no token, or one that the model lacks, or it leaves no room in
            the context; or an option is out of range.
    """
    row = _Row(tokenizer, stop)
    return Stream(_Plan(model, tokenizer, prompt, max_tokens, sampling, seed, rows=1), row)


def samples(
    model: Decodable,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    n: int,
    *,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
) -> list[str]:
    """`n` texts that follow `prompt`, drawn independently in one batch. Otherwise as `stream`."""
    if n < 1:
        raise RunError(f"{n} samples were asked for. Ask for at least 1.")
    rows = [_Row(tokenizer, stop) for _ in range(n)]
    texts = [""] * n
    plan = _Plan(model, tokenizer, prompt, max_tokens, sampling, seed, rows=n)
    for tokens in plan.engine.tokens(plan.limit):
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            texts[i] += row.feed(token)
        if all(row.ended for row in rows):
            break
    return [text + row.finish() for text, row in zip(texts, rows, strict=True)]


class Stream(Iterator[str]):
    """An iterator of the pieces of one text, none of them empty."""

    def __init__(self, plan: "_Plan", row: "_Row") -> None:
        self._plan, self._row = plan, row
        self._pieces = self._run()
        self._reason: EndReason = "unfinished"
        self._generated = 0
        self._began = self._first = self._last = 0.0

    def __next__(self) -> str:
        return next(self._pieces)

    def _run(self) -> Iterator[str]:
        self._began = time.perf_counter()
        for (token,) in self._plan.engine.tokens(self._plan.limit):
            self._last = time.perf_counter()
            self._first = self._first or self._last
            self._generated += 1
            if piece := self._row.feed(token):
                yield piece
            if self._row.ended:
                break
        piece = self._row.finish()
        self._reason = self._row.ended or self._plan.limit_reason
        if piece:
            yield piece

    @property
    def stats(self) -> Stats:
        """The numbers of this generation so far."""
        n_prompt, n_after = len(self._plan.prompt), self._generated - 1
        return Stats(
            prompt_tokens=n_prompt,
            prompt_tokens_per_s=n_prompt / (self._first - self._began) if self._first else None,
            generated_tokens=self._generated,
            generation_tokens_per_s=n_after / (self._last - self._first) if n_after > 0 else None,
            peak_gib=mx.get_peak_memory() / GIB,
            cache_bytes=state_bytes(self._plan.engine.state),
            end_reason=self._reason,
        )


class _Plan:
    """What was asked for, checked: the prompt's tokens, how many may follow, what draws them."""

    def __init__(
        self,
        model: Decodable,
        tokenizer: Tokenizer,
        prompt: str | list[int],
        max_tokens: int,
        sampling: Sampling | None,
        seed: int,
        rows: int,
    ) -> None:
        if max_tokens < 1:
            raise RunError(f"max_tokens = {max_tokens} generates nothing. Ask for at least 1.")
        if not 0 <= seed <= MAX_SEED:
            raise RunError(f"seed = {seed} is out of range: it is from 0 to {MAX_SEED}.")
        vocab_size = min(model.vocab_size, tokenizer.vocab_size)
        self.prompt = _prompt_tokens(tokenizer, prompt, vocab_size)
        room = model.max_seq_len - len(self.prompt)
        if room < 1:
            raise RunError(
                f"The prompt has {len(self.prompt):,} tokens, and the model's context of "
                f"{model.max_seq_len:,} has to hold the generated tokens too. Shorten the prompt "
                f"to at most {model.max_seq_len - 1:,} tokens, or train with a larger "
                "model.max_seq_len."
            )
        self.limit = min(max_tokens, room)
        self.limit_reason: EndReason = "length" if max_tokens <= room else "context"
        self.engine = Engine(
            model,
            self.prompt,
            sampling=sampling or Sampling(),
            seed=seed,
            rows=rows,
            vocab_size=vocab_size,
        )


def _prompt_tokens(tokenizer: Tokenizer, prompt: str | list[int], vocab_size: int) -> list[int]:
    try:
        tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(t) for t in prompt]
    except UnicodeEncodeError:
        raise RunError("The prompt is not text: it has bytes that are not UTF-8.") from None
    # Documents follow each other with eos between them, so one begins after it.
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if not tokens and start is not None:
        tokens = [start]
    if not tokens:
        raise RunError(
            "The prompt is empty, and this tokenizer has no token that begins a document. "
            "Begin the text yourself: one character is enough, a line break for instance."
        )
    strange = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if strange is not None:
        raise RunError(
            f"The prompt has token {strange}, but model and tokenizer know tokens from 0 to "
            f"{vocab_size - 1}. Use the tokenizer that the model was trained with."
        )
    return tokens


class _Row:
    """The text of one row, from its tokens: no half characters, nothing of a stop string.

    Attributes:
        ended: why the row ended, none as long as it goes on.
    """

    def __init__(self, tokenizer: Tokenizer, stop: str | Sequence[str]) -> None:
        self._eos_id = tokenizer.eos_id
        self._decoder = StreamDecoder(tokenizer)
        self._stop = StopStrings((stop,) if isinstance(stop, str) else stop)
        self.ended: EndReason | None = None

    def feed(self, token: int) -> str:
        """The text that `token` makes certain; none for a row that ended."""
        if self.ended:
            return ""
        if token == self._eos_id:
            self.ended = "stop"
            return ""
        return self._certain(self._decoder.feed(token))

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        return self._certain(self._decoder.flush()) + self._stop.flush()

    def _certain(self, text: str) -> str:
        text = self._stop.push(text)
        if self._stop.found:
            self.ended = "stop string"
        return text
