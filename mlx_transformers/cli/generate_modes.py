"""Modes of `mlxt generate`: which options each reads. All others are refused by one rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ..core.errors import RunError
from .modes import given_flags, refuse_unread

if TYPE_CHECKING:
    from .generate_run import Opened

SAMPLING = (
    "temp",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "repetition_window",
    "seed",
)
TEXT = ("max_tokens", "stop", *SAMPLING)
READING = ("bos", "special_tokens")
CACHE = ("kv_bits", "kv_group_size")
MANY = ("samples", "batch_size", "as_json")
SEARCH = ("max_tokens", "beams", "length_penalty", "as_json")

ALWAYS = ("run", "named", "prompt", "prompts")
"""Parameters that every mode reads."""


@dataclass(frozen=True)
class Mode:
    """A way to write a text.

    Attributes:
        what: the mode in the words of an error.
        reads: the parameters that it reads besides `ALWAYS`.
        single: whether it takes one prompt alone.
    """

    what: str
    reads: tuple[str, ...]
    single: bool = False


TOOLS = Mode(
    "an answer by the chat template (--tools)",
    (*TEXT, "samples", "as_json", "tools", "set"),
)
ALIGNMENT = Mode("a picture of one alignment (--alignment)", (*SEARCH, "alignment"), single=True)
BEAMS = Mode("a search for the most probable text (--beams)", (*SEARCH, *READING))
EXITS = Mode(
    "early exits (--exit-threshold), which continue one prompt once",
    (*TEXT, *READING, "exit_threshold", "exit_measure"),
    single=True,
)
DRAFT = Mode(
    "speculative decoding (--draft), which continues one prompt once",
    (*TEXT, *READING, *CACHE, "draft", "draft_tokens", "draft_layers"),
    single=True,
)
SOURCE = Mode(
    "an encoder-decoder, which searches for the most probable target", (*SEARCH, "alignment")
)
DRAWING = Mode(
    "a drawing, which has a fixed number of tokens",
    ("image", "samples", "batch_size", *SAMPLING),
)
PICTURE = Mode(
    "a picture in the prompt (--image), which is laid out as in training and continued once",
    ("image", *TEXT, *CACHE),
    single=True,
)
LAID_OUT = Mode(
    "a model that draws, whose prompts are laid out as in training", (*TEXT, *CACHE, *MANY)
)
CONTINUATION = Mode("a text that is drawn token by token", (*TEXT, *READING, *CACHE, *MANY))

SEARCHES = (BEAMS, ALIGNMENT, SOURCE)

BY_OPTION = {
    "tools": TOOLS,
    "alignment": ALIGNMENT,
    "beams": BEAMS,
    "exit_threshold": EXITS,
    "draft": DRAFT,
}
"""Modes that an option chooses, the first one that is given."""

NEEDS = {
    "set": "tools",
    "exit_measure": "exit_threshold",
    "draft_tokens": "draft",
    "draft_layers": "draft",
    "kv_group_size": "kv_bits",
}
"""Parameters without an effect unless another one is given."""


def mode_of_options(ctx: typer.Context) -> Mode | None:
    """Return the mode that an option chooses; None: the model decides.

    Raises:
        RunError: an option was given that the mode doesn't read, or one that it needs wasn't.
    """
    given = given_flags(ctx)
    for name, needed in NEEDS.items():
        if name in given and needed not in given:
            flag = next(param.opts[0] for param in ctx.command.params if param.name == needed)
            raise RunError(f"{given[name]} has no effect without {flag}: give both.")
    mode = next((mode for name, mode in BY_OPTION.items() if name in given), None)
    if mode is not None:
        _refuse_unread(ctx, mode)
    return mode


def mode_of_model(
    ctx: typer.Context, chosen: Mode | None, opened: "Opened", texts: Sequence[str]
) -> Mode:
    """Return the mode in which a model writes, given the one that an option chose.

    Raises:
        RunError: an option was given that the mode doesn't read, or several prompts where it
            takes one.
    """
    if opened.reads_source:
        mode = ALIGNMENT if chosen is ALIGNMENT else SOURCE
    elif chosen is not None:
        mode = chosen
    elif ctx.params["image"] is not None:
        mode = DRAWING if opened.draws(texts) else PICTURE
    else:
        mode = CONTINUATION if opened.artist is None else LAID_OUT
    _refuse_unread(ctx, mode)
    if opened.artist is not None:
        _refuse_unread(ctx, Mode(LAID_OUT.what, tuple(set(mode.reads) - set(READING))))
    if mode.single and len(texts) > 1:
        raise RunError(f"{len(texts)} prompts don't go with {mode.what}: give one --prompt.")
    return mode


def _refuse_unread(ctx: typer.Context, mode: Mode) -> None:
    refuse_unread(ctx, (*ALWAYS, *mode.reads), mode.what)
