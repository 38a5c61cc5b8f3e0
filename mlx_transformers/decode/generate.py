"""Text generation: `generate` returns a text, `stream` yields it in pieces, `generate_batch` many.

from mlx_transformers import generate, load

model, tokenizer = load("runs/mistral_tiny")
print(generate(model, tokenizer, "ROMEO:", max_tokens=200))
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from ..core.device import GIB
from ..core.errors import RunError
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.model import Arrays, Decodable
from .cache_size import state_bytes
from .drafts import Draft
from .engine import Engine
from .exits import ExitEngine, Exits
from .packed_cache import CachePacking
from .sample import Sampling
from .speculative import LENGTH, SpeculativeEngine
from .stats import EndReason, Stats
from .writer import Generation, TextWriter

MAX_SEED = 2**63 - 1
SAMPLE_TOKENS = 120
"""Tokens of a sample while training."""

ROWS = 32
"""Texts that are generated at once, where nothing else is asked for."""

Prompt = str | Sequence[int]
"""A text, or its tokens."""
Progress = Callable[[int, int], None]
"""Told how many texts have ended, of how many."""


def generate(model: Decodable, tokenizer: Tokenizer, prompt: Prompt, **options: Any) -> str:
    """Generate the text that follows `prompt`. Options and errors are those of `stream`."""
    return "".join(stream(model, tokenizer, prompt, **options))


def sampler(model: Decodable, tokenizer: Tokenizer, prompt: str) -> Callable[[], str]:
    """Make a function that generates short texts from `prompt`, for samples while training.

    Raises:
        RunError: as `stream`, before anything is trained.
    """
    sampling = Sampling(temp=0.8, top_p=0.95)
    encoded(model, tokenizer, [prompt])

    def sample() -> str:
        continuation = generate(
            model, tokenizer, prompt, max_tokens=SAMPLE_TOKENS, sampling=sampling
        )
        return prompt + continuation

    return sample


def stream(
    model: Decodable,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    bos: bool = True,
    special_tokens: bool = False,
    exits: Exits | None = None,
    draft: Draft | None = None,
    draft_tokens: int = LENGTH,
    packing: CachePacking | None = None,
    given: Arrays | None = None,
) -> "Stream":
    """Generate the text that follows `prompt`, piece by piece; its figures are in `.stats`.

    The text ends with one of the tokenizer's end tokens, before the first of the strings `stop`,
    after `max_tokens`, or where the model's context is full. The same seed gives the same text. An
    empty prompt is replaced by the begin-of-document token. For `bos` and `special_tokens` see
    `prompt_tokens`. With `exits` a token leaves the model at the first confident layer.
    With a `draft`, `draft_tokens` are proposed at once, and the text has the same distribution
    (decode/speculative.py). With a `packing` the KV cache has few bits. The text also reads the
    arrays `given`, such as `pixels` of a picture whose patches have their tokens in the prompt.

    Raises:
        RunError: the prompt has no token, or one that the model lacks, or it leaves no room in
            the context; or an option is out of range.
    """
    _check_numbers(1, max_tokens, seed)
    encode = partial(prompt_tokens, bos=bos, special_tokens=special_tokens)
    rows = encoded(model, tokenizer, [prompt], encode)
    vocab_size = min(model.vocab_size, tokenizer.n_writable)
    engine: Engine | ExitEngine | SpeculativeEngine
    if draft is not None:
        engine = SpeculativeEngine(
            model,
            draft,
            sampling=sampling,
            vocab_size=vocab_size,
            length=draft_tokens,
            packing=packing,
        )
    elif exits is None:
        engine = Engine(model, sampling=sampling, vocab_size=vocab_size, packing=packing)
    elif packing is not None:
        raise RunError("--kv-bits and --exit-threshold don't go together: give one of them.")
    else:
        engine = ExitEngine(model, exits, sampling=sampling, vocab_size=vocab_size)
    request = _Request(rows, engine, max_tokens, seed, given)
    return Stream(request, TextWriter(tokenizer, stop, begins=not len(prompt)))


def generate_batch(
    model: Decodable,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    samples: int = 1,
    max_tokens: int = 256,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    bos: bool = True,
    special_tokens: bool = False,
    rows: int = ROWS,
    packing: CachePacking | None = None,
    progress: Progress = lambda done, texts: None,
) -> list[list[Generation]]:
    """Generate `samples` texts for each of `prompts`, many at once with left padding.

    Sample s of prompt p is drawn with the seed `seed + p * samples + s`, and is the text that
    `stream` gives for that prompt and seed. Otherwise as `stream`; where one of the prompts that
    are continued together fills the model's context, the others end there too.

    Args:
        rows: texts that are generated at once; their decode states share the memory.
        packing: of the KV cache; None stores it in the dtype of the model.
        progress: called after each step with the number of texts that have ended, and of all.

    Raises:
        RunError: as `stream`, or there is no prompt, or `samples` or `rows` is below 1.
    """
    for name, value in (("samples", samples), ("rows", rows)):
        if value < 1:
            raise RunError(f"{name} = {value} generates nothing. Ask for at least 1.")
    _check_numbers(len(prompts) * samples, max_tokens, seed)
    encode = partial(prompt_tokens, bos=bos, special_tokens=special_tokens)
    texts = [row for row in encoded(model, tokenizer, prompts, encode) for _ in range(samples)]
    vocab_size = min(model.vocab_size, tokenizer.n_writable)
    engine = Engine(model, sampling=sampling, vocab_size=vocab_size, packing=packing)
    request = _Request(texts, engine, max_tokens, seed)
    begins = [not len(prompt) for prompt in prompts for _ in range(samples)]
    writers = [TextWriter(tokenizer, stop, begins=begin) for begin in begins]
    finished: dict[int, Generation] = {}
    # Prompts of similar length together, so that little is padded.
    order = sorted(range(len(writers)), key=lambda i: len(request.rows[i]))
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        for tokens in request.begin(chosen):
            for i, token in zip(chosen, tokens, strict=True):
                writers[i].feed(token)
            going = sum(writers[i].ended is None for i in chosen)
            progress(first + len(chosen) - going, len(order))
            if not going:
                break
        finished |= {i: writers[i].generation(request.limit_reason) for i in chosen}
    flat = [finished[i] for i in range(len(writers))]
    return [flat[i : i + samples] for i in range(0, len(flat), samples)]


class Stream(Iterator[str]):
    """An iterator over the pieces of one text, none of them empty."""

    def __init__(self, request: "_Request", writer: TextWriter) -> None:
        self._request, self._writer = request, writer
        self._pieces = self._run()
        self._reason: EndReason = "unfinished"
        self._began = self._first = self._last = 0.0

    def __next__(self) -> str:
        return next(self._pieces)

    def _run(self) -> Iterator[str]:
        self._began = time.perf_counter()
        for (token,) in self._request.begin([0]):
            self._last = time.perf_counter()
            self._first = self._first or self._last
            if piece := self._writer.feed(token):
                yield piece
            if self._writer.ended:
                break
        piece = self._writer.finish()
        self._reason = self._writer.ended or self._request.limit_reason
        if piece:
            yield piece

    @property
    def stats(self) -> Stats:
        """The figures of this generation so far."""
        generated, engine = self._writer.tokens, self._request.engine
        n_prompt, n_after = len(self._request.rows[0]), generated - 1
        return Stats(
            prompt_tokens=n_prompt,
            prompt_tokens_per_s=n_prompt / (self._first - self._began) if self._first else None,
            generated_tokens=generated,
            generation_tokens_per_s=n_after / (self._last - self._first) if n_after > 0 else None,
            peak_gib=mx.get_peak_memory() / GIB,
            cache_bytes=state_bytes(engine.cache),
            end_reason=self._reason,
            layers_per_token=engine.layers_per_token if isinstance(engine, ExitEngine) else None,
            tokens_per_step=(
                engine.accepted_per_step if isinstance(engine, SpeculativeEngine) else None
            ),
        )


def prompt_tokens(
    tokenizer: Tokenizer,
    prompt: Prompt,
    vocab_size: int,
    *,
    bos: bool = True,
    special_tokens: bool = False,
) -> list[int]:
    """The tokens of a prompt, one at least, each below `vocab_size`.

    Args:
        tokenizer: the tokenizer.
        prompt: a text; or tokens, which are taken as they are.
        vocab_size: number of tokens that the model and the tokenizer know.
        bos: whether a text gets the tokens that the tokenizer's own template puts before it.
        special_tokens: whether special tokens spelled out in a text (`<|im_start|>`) are tokens.

    Raises:
        RunError: the prompt has no token, one that is out of range, or isn't text.
    """
    try:
        tokens = _encoded(tokenizer, prompt, bos, special_tokens)
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


def _encoded(tokenizer: Tokenizer, prompt: Prompt, bos: bool, special_tokens: bool) -> list[int]:
    if not isinstance(prompt, str):
        return [int(token) for token in prompt]
    tokens = tokenizer.encode_special(prompt) if special_tokens else tokenizer.encode(prompt)
    prefix = list(tokenizer.prefix) if bos else []
    # A prompt that spells the begin token out has it already.
    return tokens if tokens[: len(prefix)] == prefix else [*prefix, *tokens]


def encoded(
    model: Decodable,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    encode: Callable[[Tokenizer, Prompt, int], list[int]] = prompt_tokens,
) -> list[list[int]]:
    """The tokens of prompts that leave room for at least one more in the model's context.

    Raises:
        RunError: a prompt is too long, or `encode` refuses it.
    """
    vocab_size = min(model.vocab_size, tokenizer.vocab_size)
    tokens = [encode(tokenizer, prompt, vocab_size) for prompt in prompts]
    longest = max(map(len, tokens))
    if longest >= model.max_seq_len:
        raise RunError(
            f"The prompt has {longest:,} tokens, and the model's context of "
            f"{model.max_seq_len:,} has to hold the generated tokens too. Shorten the prompt "
            f"to at most {model.max_seq_len - 1:,} tokens, or train with a larger "
            "model.max_seq_len."
        )
    return tokens


@dataclass
class _Request:
    """Texts to generate.

    Attributes:
        rows: the prompt's tokens for each text.
        engine: continues them.
        max_tokens: the most tokens of a text.
        seed: that of the first text; each further one has the next.
        given: arrays that the texts read beside the tokens; None: none.
        limit_reason: why a text ends that no token and no stop string ends.
    """

    rows: list[list[int]]
    engine: Engine | ExitEngine | SpeculativeEngine
    max_tokens: int
    seed: int = 0
    given: Arrays | None = None
    limit_reason: EndReason = "length"

    def begin(self, chosen: Sequence[int]) -> Iterator[list[int]]:
        """The next tokens of the chosen rows, step by step."""
        prompts = [self.rows[i] for i in chosen]
        seeds = [self.seed + i for i in chosen]
        if isinstance(self.engine, Engine):
            self.engine.start(prompts, seeds, given=self.given)
        else:
            self.engine.start(prompts, seeds)
        room = self.engine.model.max_seq_len - max(map(len, prompts))
        self.limit_reason = "length" if self.max_tokens <= room else "context"
        return self.engine.tokens(min(self.max_tokens, room))


def _check_numbers(n_texts: int, max_tokens: int, seed: int) -> None:
    """Check the options of a request for so many texts.

    Raises:
        RunError: nothing is to be generated, or a seed is out of range.
    """
    if max_tokens < 1:
        raise RunError(f"max_tokens = {max_tokens} generates nothing. Ask for at least 1.")
    if not n_texts:
        raise RunError("There is no prompt. Give at least one.")
    last = MAX_SEED + 1 - n_texts
    if not 0 <= seed <= last:
        raise RunError(f"seed = {seed} is out of range: it is from 0 to {last}.")
