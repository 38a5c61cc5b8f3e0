"""Writing without drawing: the best target of a source, or the best continuation of a prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..core.errors import RunError
from ..data.batches.pairs import Pairs
from ..data.tokenizers.controls import with_controls
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.beam import Beams, Hypothesis, best_continuations, best_targets
from ..runs.folder import find_checkpoint


def reads_source(model: Any) -> bool:
    """Whether a model writes beside a source, as encoder-decoders do."""
    return hasattr(model, "encode") and hasattr(model, "step")


def search(
    run: str | Path | None,
    text: str,
    *,
    max_tokens: int,
    beams: Beams,
    loaded: tuple[Any, Tokenizer] | None = None,
) -> str:
    """The most probable text that a run writes.

    Args:
        run: a run's name or folder, or None for the newest.
        text: the source of an encoder-decoder, or the prompt of a decoder.
        max_tokens: the most tokens to write.
        beams: how to search.
        loaded: the run's model and tokenizer, where they are at hand.

    Raises:
        RunError: there is no such run, its model writes nothing, or the text is empty or too long.
    """
    model, tokenizer = loaded or load(run)
    if not hasattr(model, "step"):
        raise RunError(
            "This run's model is an encoder: it reads text and writes none. `mlxt eval` "
            "measures it."
        )
    found = (
        _target(run, text, model, tokenizer, max_tokens, beams)
        if reads_source(model)
        else _continuation(text, model, tokenizer, max_tokens, beams)
    )
    return tokenizer.decode(found.tokens)


@dataclass(frozen=True)
class Alignment:
    """Where a model looked while it wrote.

    Attributes:
        source, target: tokens as people read them, a control token as its name in brackets.
        weights: `[T][S]`, how much each target token looked at each source token; a row's sum is 1,
            or less where a window around a predicted place is all that it saw.
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
    loaded: tuple[Any, Tokenizer] | None = None,
) -> tuple[str, Alignment]:
    """What `search` writes for a source, and where the model looked meanwhile.

    Bahdanau et al. 2015, figure 3; of a transformer, what `EncoderDecoderModel.alignment` says. The
    source is in the order of its text, also where the model reads it from its end.

    Raises:
        MlxtError: as `search`, or the model doesn't look back at a source.
    """
    model, tokenizer = loaded or load(run)
    if not reads_source(model):
        raise RunError(
            "This run's model reads no source, so there is no alignment to show. One of "
            "recipes/translation has one."
        )
    pairs, tokenizer = _pairs(run, model, tokenizer)
    source = pairs.source(text, tokenizer)
    found = _best(source, pairs, model, tokenizer, max_tokens, beams)
    read = [tokenizer.control(pairs.start), *found.tokens]
    weights = model.alignment(mx.array([source]), mx.array([read]))[0]
    order = list(range(len(source) - 1))
    order = [*(order[::-1] if pairs.reverse_source else order), len(source) - 1]
    names = [tokenizer.surface(source[i]).strip() for i in order[:-1]]
    said = [tokenizer.surface(token).strip() for token in found.tokens]
    last = ["[end]"] if found.ended else []
    rows = weights[:, mx.array(order)].tolist()[: len(said) + len(last)]
    return tokenizer.decode(found.tokens), Alignment([*names, "[end]"], [*said, *last], rows)


def _target(
    run: str | Path | None,
    text: str,
    model: Any,
    tokenizer: Tokenizer,
    max_tokens: int,
    beams: Beams,
) -> Hypothesis:
    pairs, tokenizer = _pairs(run, model, tokenizer)
    return _best(pairs.source(text, tokenizer), pairs, model, tokenizer, max_tokens, beams)


def _pairs(run: str | Path | None, model: Any, tokenizer: Tokenizer) -> tuple[Pairs, Tokenizer]:
    """How a run reads pairs, and its tokenizer with the tokens that this takes."""
    folder, _ = find_checkpoint(run)
    kind: Any = load_recipe(folder.recipe).data.batch
    begins: Any = getattr(kind, "start", "start")
    pairs = kind if isinstance(kind, Pairs) else Pairs(start=begins)
    return pairs, with_ends(tokenizer, begins, model)


def _best(
    source: list[int],
    pairs: Pairs,
    model: Any,
    tokenizer: Tokenizer,
    max_tokens: int,
    beams: Beams,
) -> Hypothesis:
    _admit(len(source), model)
    found = best_targets(
        model,
        mx.array([source], dtype=mx.int32),
        start=tokenizer.control(pairs.start),
        end=tokenizer.control("end"),
        limit=min(max_tokens, _longest(model, max_tokens + 1) - 1),
        beams=beams,
        vocab_size=min(model.vocab_size, tokenizer.vocab_size),
    )
    return found[0][0]


def with_ends(tokenizer: Tokenizer, begins: str, model: Any) -> Tokenizer:
    """The tokenizer with the tokens that begin and end a target, as published ones name them.

    Raises:
        RunError: its vocabulary has none of their names.
    """
    ready = with_controls(tokenizer, (begins, "end"))
    if max(ready.control(begins), ready.control("end")) >= model.vocab_size:
        raise RunError(
            "This run's tokenizer has no token that begins or ends a target, so none can be "
            "written. Import the model from a folder that holds its tokenizer, or train it on "
            "pairs."
        )
    return ready


def _continuation(
    text: str, model: Any, tokenizer: Tokenizer, max_tokens: int, beams: Beams
) -> Hypothesis:
    prompt = tokenizer.encode(text)
    if not prompt:
        raise RunError("The prompt is empty: a search continues what is there. Give it a text.")
    _admit(len(prompt) + 1, model)
    end = tokenizer.eos_id
    found = best_continuations(
        model,
        prompt,
        # A token that no tokenizer has never comes, so that the search goes on to its limit.
        end=model.vocab_size if end is None else end,
        limit=min(max_tokens, model.max_seq_len - len(prompt)),
        beams=beams,
        vocab_size=min(model.vocab_size, tokenizer.vocab_size),
    )
    return found[0]


def _admit(length: int, model: Any) -> None:
    if length > (longest := _longest(model, length)):
        raise RunError(
            f"The text has {length:,} tokens, and the model reads {longest:,} at most "
            "(model.max_seq_len). Shorten it."
        )


def _longest(model: Any, otherwise: int) -> int:
    """How many tokens a model reads; recurrent ones have no end."""
    return getattr(model, "max_seq_len", None) or otherwise
