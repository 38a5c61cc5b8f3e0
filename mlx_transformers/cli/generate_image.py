"""`mlxt generate --image`: a picture in the prompt, or one drawn from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.errors import RunError
from .generate_alignment import check_new
from .generate_run import Opened, Texts

if TYPE_CHECKING:
    from ..decode.sample import Sampling
    from ..models.model import Arrays
    from ..verbs.drawing import Artist


def default_prompt(image: Path | None, prompts: Path | None) -> list[str]:
    """Return the prompts where none is given: a picture alone, if there is one."""
    from ..data.pictures.prompt import PLACEHOLDER

    return [PLACEHOLDER] if image is not None and prompts is None else []


def as_read(
    opened: Opened, texts: Sequence[str], image: Path | None, bos: bool, special_tokens: bool
) -> "tuple[Texts, dict[str, Any], Arrays | None]":
    """Return the prompts, the options that say how they are read, and the pixels beside them.

    Raises:
        RunError: as `with_picture`, or `Artist.prompt`.
    """
    from ..verbs.picture_prompt import with_picture

    if opened.artist is not None:
        return Texts(texts, [opened.artist.prompt(text, image) for text in texts]), {}, None
    pairs = [with_picture(opened.model, opened.tokenizer, text, image) for text in texts]
    reading = {} if opened.reads_source else {"bos": bos, "special_tokens": special_tokens}
    return Texts(texts, [prompt for prompt, _ in pairs]), reading, pairs[0][1]


def draw(
    artist: "Artist | None",
    texts: Sequence[str],
    image: Path | None,
    samples: int,
    sampling: "Sampling",
    seed: int,
    rows: int,
) -> None:
    """Draw texts, and write the drawings side by side to a new file, those of a text in a row.

    Args:
        artist: the model.
        texts: the prompts.
        image: the file.
        samples: drawings of each.
        sampling: the options of sampling.
        seed: the seed of the first drawing.
        rows: drawings that are made at once.

    Raises:
        RunError: the file is no PNG, exists, or is in no folder; or a prompt is empty.
    """
    from ..data.pictures.read import write_picture
    from ..verbs.drawing import sheet

    assert artist is not None, "the model draws"
    assert image is not None, "the mode's option was given"
    if image.exists():
        raise RunError(
            f"{image} exists already. To draw, give --image the name of a new file; to have it "
            "described, leave out --prompt, or write <image> in it where the picture stands."
        )
    check_new(image, "--image", (".png",))
    if not all(text.strip() for text in texts):
        raise RunError("--prompt is empty: name what to draw, as in --prompt 'red apple'.")
    prompts = [artist.picture_prompt(text) for text in texts for _ in range(samples)]
    drawings = artist.draw(prompts, sampling, seed, rows=rows)
    columns = samples if samples > 1 else min(len(prompts), 8)
    write_picture(image, sheet(drawings, columns))
    height, width = drawings.shape[1:3]
    count = f"{len(drawings):,} drawings" if len(drawings) > 1 else "a drawing"
    typer.echo(f"{image}: {count} of {width} x {height} pixels", err=True)
