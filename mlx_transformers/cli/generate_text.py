"""Shows the texts of `mlxt generate`: one as it is written, or many."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from ..core.terminal import is_terminal
from .failures import INTERRUPTED
from .generate_run import Opened, Texts

if TYPE_CHECKING:
    from ..decode.generate import Prompt, Stream


def print_texts(
    opened: Opened,
    texts: Texts,
    options: dict[str, Any],
    alone: dict[str, Any],
    many: tuple[int, int],
    as_json: bool,
) -> None:
    """Print the continuations of prompts; a single one is streamed, unless JSON is asked for.

    Args:
        opened: the run.
        texts: the prompts.
        options: those that `decode.generate.stream` and `generate_batch` share.
        alone: further options of `stream`.
        many: texts for each prompt, and those that are generated at once.
        as_json: whether to print a line of JSON for each text.
    """
    if len(texts.given) * many[0] == 1 and not as_json:
        _stream(opened, texts.read[0], options | alone)
    else:
        _batch(opened, texts, options | {"samples": many[0], "rows": many[1]}, as_json)


def _stream(opened: Opened, prompt: "Prompt", options: dict[str, Any]) -> None:
    """Stream one text, then print its speed."""
    from ..decode.generate import stream

    pieces = stream(opened.model, opened.tokenizer, prompt, **options)
    finished = _show(pieces)
    typer.echo(pieces.stats.line(), err=True)
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _batch(opened: Opened, texts: Texts, options: dict[str, Any], as_json: bool) -> None:
    """Print all texts of all prompts, each under a line with its number."""
    from ..decode.generate import generate_batch

    with waiting("Compiling and reading the prompts ...") as show:
        written = generate_batch(
            opened.model,
            opened.tokenizer,
            texts.read,
            progress=lambda done, total: show(f"{done:,} of {total:,} texts ..."),
            **options,
        )
    for p, (prompt, group) in enumerate(zip(texts.given, written, strict=True), 1):
        for s, sampled in enumerate(group, 1):
            if as_json:
                fields = {"tokens": sampled.tokens, "end_reason": sampled.end_reason}
                _print_json(prompt=prompt, sample=s, text=sampled.text, **fields)
                continue
            sample = f", sample {s}" if len(group) > 1 else ""
            print(f"--- prompt {p}{sample} ---\n{sampled.text}")


def print_search(
    opened: Opened,
    texts: Texts,
    options: dict[str, Any],
    as_json: bool,
    find: Callable[..., str],
) -> None:
    """Print the most probable text for each prompt or source.

    Args:
        opened: the run.
        texts: the prompts.
        options: those of `verbs.search.search`.
        as_json: whether to print a line of JSON for each text.
        find: `verbs.search.search`, or what also plots.
    """
    loaded = (opened.model, opened.tokenizer)
    for p, (prompt, as_read) in enumerate(zip(texts.given, texts.read, strict=True), 1):
        with waiting("Compiling and searching ..."):
            text = find(opened.run, as_read, loaded=loaded, **options)
        if as_json:
            _print_json(prompt=prompt, text=text)
        else:
            print(f"--- prompt {p} ---\n{text}" if len(texts.given) > 1 else text)


def _print_json(**fields: object) -> None:
    print(json.dumps(fields, ensure_ascii=False))


@contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Shows a line on a terminal's standard error while a block runs, then removes it.

    Yields a function that replaces the line's text.
    """
    if not is_terminal(sys.stderr):
        yield lambda text: None
        return

    def show(text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    show(text)
    try:
        yield show
    finally:
        show("")


def _show(pieces: "Stream") -> bool:
    """Print the pieces as they come; returns False if the user interrupted."""
    try:
        with waiting("Compiling and reading the prompt ..."):
            first = next(pieces, "")
        sys.stdout.write(first)
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return False
    except BrokenPipeError:
        # The reader has enough, as in `mlxt generate ... | head`: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        print(flush=True)
    return True
