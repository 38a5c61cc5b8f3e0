"""Opens the run of `mlxt generate`, and reads its prompts."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import RunError
from ..core.parse import read_text

if TYPE_CHECKING:
    from ..data.tokenizers.tokenizer import Tokenizer
    from ..decode.generate import Prompt
    from ..models.model import Decodable
    from ..verbs.drawing import Artist


OWN_DRAFTS = ("lookup", "mtp", "early_exit")
"""Values of --draft that are no runs."""


@dataclass(frozen=True)
class Texts:
    """Prompts, as the user gave them and as the model reads them."""

    given: "Sequence[str]"
    read: "Sequence[Prompt]"


@dataclass(frozen=True)
class Opened:
    """A run that writes.

    Attributes:
        run: its name or folder; None: the newest.
        model, tokenizer: its model and tokenizer.
        artist: both, if the model draws.
        reads_source: whether the model is an encoder-decoder.
    """

    run: str | None
    model: "Decodable"
    tokenizer: "Tokenizer"
    artist: "Artist | None"
    reads_source: bool

    def draws(self, texts: Sequence[str]) -> bool:
        """Whether a picture beside these prompts is drawn, and not read at their `<image>`."""
        from ..data.pictures.prompt import PLACEHOLDER

        return self.artist is not None and not any(PLACEHOLDER in text for text in texts)


def one_run(run: str | None, named: str | None, draft: str | None) -> str | None:
    """Return the run that the argument or --run names, after a look for it, and for the one that
    --draft names; None: the newest.

    Raises:
        RunError: both name one, or there is no such run.
    """
    from ..runs.folder import find_checkpoint

    if draft is not None and draft not in OWN_DRAFTS:
        find_checkpoint(draft)
    if run is not None and named is not None:
        raise RunError(f"The run is named twice, {run} and --run {named}: name it once.")
    find_checkpoint(run if named is None else named)
    return run if named is None else named


def open_run(run: str | None) -> Opened:
    """Load a run that generates text.

    Raises:
        RunError: there is no such run, or its model writes no text.
    """
    from ..assembly.saved import load
    from ..verbs.drawing import load_artist
    from ..verbs.search import reads_source, writer

    loaded, tokenizer = load(run)
    model = writer(loaded)
    artist = load_artist(run, (model, tokenizer))
    return Opened(run, model, tokenizer, artist, reads_source(model))


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """Return all prompts, those of the command line first.

    Raises:
        RunError: there is none, or the file can't be read.
    """
    if prompts.count("-") > 1:
        raise RunError("--prompt - reads all of standard input, so it can be given once.")
    texts = [_standard_input() if text == "-" else text for text in prompts]
    if file is not None:
        texts += _lines(file)
    if not texts:
        raise RunError("Give a prompt: --prompt TEXT, or --prompts FILE with one per line.")
    return texts


def _lines(file: Path) -> list[str]:
    """The lines of a file that aren't empty."""
    lines = [line for line in read_text(file, f"--prompts {file}", RunError).split("\n") if line]
    if not lines:
        raise RunError(f"--prompts {file} has no prompt: every line of it is empty.")
    return lines


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunError(
            f"Standard input is not UTF-8 text: byte {error.object[error.start]:#04x} at "
            f"{error.start}. Convert it first, for instance with iconv."
        ) from None
    return text.removesuffix("\n")
