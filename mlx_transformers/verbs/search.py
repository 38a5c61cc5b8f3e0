"""Beam search with a run: the best target of a source, or the best continuation of a prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..core.errors import RunError
from ..core.task import GENERATING, described
from ..data.batches.pairs import Pairs
from ..data.tokenizers.controls import with_controls
from ..data.tokenizers.stream import StreamDecoder
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.beam import Beams, Hypothesis, best_continuations, best_targets
from ..decode.generate import Prompt, prompt_tokens
from ..models.model import Aligning, Decodable, Model
from ..runs.folder import find_checkpoint


def reads_source(model: Model) -> bool:
    """Whether a model is an encoder-decoder, which writes a target for a source."""
    return "seq2seq" in model.tasks


def writes(model: Model) -> bool:
    """Whether a model generates text; encoders don't."""
    return bool(model.tasks & GENERATING)


def search(
    run: str | Path | None,
    text: Prompt,
    *,
    max_tokens: int,
    beams: Beams,
    loaded: tuple[Model, Tokenizer] | None = None,
) -> str:
    """Find the most probable text that a run's model writes.

    Args:
        run: a run's name or folder, or None for the newest.
        text: the source of an encoder-decoder, or the prompt of a decoder, which may be tokens.
        max_tokens: the most tokens to write.
        beams: options of the search.
        loaded: the run's model and tokenizer, if they are loaded already.

    Raises:
        RunError: there is no such run, its model writes no text, or the text is empty or too long.
    """
    if max_tokens < 1:
        raise RunError(f"max_tokens = {max_tokens} generates nothing. Ask for at least 1.")
    read, tokenizer = loaded or load(run)
    model = writer(read)
    if reads_source(model):
        assert isinstance(text, str), "a source is text"
        best = _target(run, text, model, tokenizer, max_tokens, beams)
    else:
        vocab_size = min(model.vocab_size, tokenizer.vocab_size)
        prompt = prompt_tokens(tokenizer, text, vocab_size)
        best = _continuation(prompt, model, tokenizer, max_tokens, beams)
        return continuation_text(tokenizer, best.tokens, begins=not text)
    return tokenizer.decode(best.tokens)


def writer(model: Model) -> Decodable:
    """Return the model, which generates text.

    Raises:
        RunError: it doesn't; the error names the verb for it.
    """
    if not writes(model) or not isinstance(model, Decodable):
        raise RunError(
            f"This run's model is {described(model.tasks)}, so it can't continue a prompt. "
            f"{_instead(model)}"
        )
    return model


def _instead(model: Model) -> str:
    """The verb for a model that continues no prompt."""
    if "word_vectors" in model.tasks:
        return "`mlxt nearest` prints the words nearest to a word."
    if "listen" in model.tasks:
        return "`mlxt transcribe` takes sound files."
    also = ", and `mlxt embed` gives vectors of texts" if "encode" in model.tasks else ""
    return f"`mlxt eval` measures it{also}."


@dataclass(frozen=True)
class Alignment:
    """Attention of an encoder-decoder over its source while it writes.

    Attributes:
        source, target: tokens as text, a control token as its name in brackets.
        weights: `[T][S]`, the attention of each target token to each source token; a row's sum is
            1, or less where a window around a predicted position limits it (local attention).
    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]


def align(
    run: str | Path | None,
    text: str,
    *,
    max_tokens: int,
    beams: Beams,
    loaded: tuple[Model, Tokenizer] | None = None,
) -> tuple[str, Alignment]:
    """Find what `search` does for a source, and the attention over it.

    Bahdanau et al. 2015, figure 3; for a transformer see `EncoderDecoderModel.alignment`. The
    source is in the order of its text, also for a model that reads it reversed.

    Raises:
        MlxtError: as `search`, or the model has no attention over a source.
    """
    model, tokenizer = loaded or load(run)
    if not reads_source(model) or not isinstance(model, Aligning):
        raise RunError(
            "This run's model reads no source, so there is no alignment to show. One of "
            "recipes/translation has one."
        )
    pairs, tokenizer = _pairs(run, model, tokenizer)
    source = pairs.source(text, tokenizer)
    best = _best(source, pairs, model, tokenizer, max_tokens, beams)
    read = [tokenizer.control(pairs.start), *best.tokens]
    weights = model.alignment(mx.array([source]), mx.array([read]))[0]
    order = list(range(len(source) - 1))
    order = [*(order[::-1] if pairs.reverse_source else order), len(source) - 1]
    names = [tokenizer.surface(source[i]).strip() for i in order[:-1]]
    written = [tokenizer.surface(token).strip() for token in best.tokens]
    last = ["[end]"] if best.ended else []
    rows = cast(list[list[float]], weights[: len(written) + len(last), mx.array(order)].tolist())
    return tokenizer.decode(best.tokens), Alignment([*names, "[end]"], [*written, *last], rows)


def _target(
    run: str | Path | None,
    text: str,
    model: Decodable,
    tokenizer: Tokenizer,
    max_tokens: int,
    beams: Beams,
) -> Hypothesis:
    pairs, tokenizer = _pairs(run, model, tokenizer)
    return _best(pairs.source(text, tokenizer), pairs, model, tokenizer, max_tokens, beams)


def _pairs(run: str | Path | None, model: Model, tokenizer: Tokenizer) -> tuple[Pairs, Tokenizer]:
    """The batch kind that makes a run's source and target rows, and the tokenizer with the
    control tokens that it needs."""
    folder, _ = find_checkpoint(run)
    kind = load_recipe(folder.recipe).data.batch
    pairs = kind if isinstance(kind, Pairs) else Pairs(start=kind.begins)
    return pairs, with_ends(tokenizer, kind.begins, model)


def _best(
    source: list[int],
    pairs: Pairs,
    model: Decodable,
    tokenizer: Tokenizer,
    max_tokens: int,
    beams: Beams,
) -> Hypothesis:
    _check_length(len(source), model)
    targets = best_targets(
        model,
        mx.array([source], dtype=mx.int32),
        start=tokenizer.control(pairs.start),
        end=tokenizer.control("end"),
        limit=min(max_tokens, model.max_seq_len - 1),
        beams=beams,
        vocab_size=min(model.vocab_size, tokenizer.vocab_size),
    )
    return targets[0][0]


def with_ends(tokenizer: Tokenizer, begins: str, model: Model) -> Tokenizer:
    """Add the control tokens that begin and end a target, under their published names.

    Raises:
        RunError: the model's vocabulary lacks one of them.
    """
    ready = with_controls(tokenizer, (begins, "end"))
    if max(ready.control(begins), ready.control("end")) >= model.vocab_size:
        raise RunError(
            "This run's tokenizer has no token that begins or ends a target, so none can be "
            "written. Import the model from a folder that holds its tokenizer, or train it on "
            "pairs."
        )
    return ready


def continuation_text(tokenizer: Tokenizer, tokens: list[int], *, begins: bool) -> str:
    """The text of tokens that follow a prompt, or with `begins` begin a text."""
    decoder = StreamDecoder(tokenizer, begins=begins)
    return "".join([*map(decoder.feed, tokens), decoder.flush()])


def _continuation(
    prompt: list[int], model: Decodable, tokenizer: Tokenizer, max_tokens: int, beams: Beams
) -> Hypothesis:
    _check_length(len(prompt) + 1, model)
    ends = sorted(end for end in tokenizer.end_ids if end < model.vocab_size)
    continuations = best_continuations(
        model,
        prompt,
        # A number that is no token never comes, so that the search goes on to its limit.
        end=ends or model.vocab_size,
        limit=min(max_tokens, model.max_seq_len - len(prompt)),
        beams=beams,
        vocab_size=min(model.vocab_size, tokenizer.n_writable),
    )
    return continuations[0]


def _check_length(length: int, model: Model) -> None:
    if length > (longest := model.max_seq_len):
        raise RunError(
            f"The text has {length:,} tokens, and the model reads {longest:,} at most "
            "(model.max_seq_len). Shorten it."
        )
