"""`mlxt generate --image`: a picture in the prompt, or one drawn from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.errors import RunError
from .generate_alignment import check_new

if TYPE_CHECKING:
    from ..decode.sample import Sampling
    from ..verbs.drawing import Artist


def default_prompt(image: Path | None, prompts: Path | None) -> list[str]:
    """Return the prompts where none is given: a picture alone, if there is one."""
    from ..data.pictures.prompt import PLACEHOLDER

    return [PLACEHOLDER] if image is not None and prompts is None else []


def with_image(
    loaded: tuple[Any, Any],
    artist: "Artist | None",
    texts: list[str],
    image: Path | None,
    others: tuple[object, ...],
    reading: dict[str, bool],
) -> tuple[tuple[list[str], list[Any]], dict[str, Any]]:
    """Return the prompts as they were given and as they are read, and the options that show a
    picture to the model.

    Args:
        loaded: the model and its tokenizer.
        artist: both, if the model draws: it reads a picture as tokens of the prompt.
        texts: the prompts.
        image: the file of the picture; None: there is none.
        others: values of the options that don't go with a picture.
        reading: `bos` and `special_tokens`, of prompts that are text alone.

    Raises:
        RunError: as `with_picture`, or there are several prompts or such options.
    """
    from ..verbs.picture_prompt import with_picture

    if image is not None and (any(others) or len(texts) > 1):
        raise RunError(
            "--image goes with one prompt that is continued once: leave out --samples, --json, "
            "--beams, --draft and --exit-threshold, and give one --prompt."
        )
    if (artist is not None or image is not None) and reading != {
        "bos": True,
        "special_tokens": False,
    }:
        raise RunError(
            "A prompt beside a picture, or of a model that draws, is laid out as in training: "
            "leave out --special-tokens and --no-bos."
        )
    if artist is not None:
        return (texts, [artist.prompt(text, image) for text in texts]), {}
    read = [with_picture(*loaded, text, image) for text in texts]
    pixels = read[0][1]
    return (texts, [text for text, _ in read]), {} if pixels is None else {"given": pixels}


def drawn(
    artist: "Artist | None",
    texts: list[str],
    image: Path | None,
    many: tuple[int, int],
    how: tuple["Sampling", int],
    others: tuple[object, ...],
) -> bool:
    """Draw texts, write the drawings side by side to a new file, those of a text in a row, and
    return True; False where nothing is to be drawn, since the model doesn't draw, there is no
    picture, or a prompt has a place for one that is read.

    Args:
        artist: the model.
        texts: the prompts.
        image: the file; None: there is none.
        many: drawings of each, and those that are made at once.
        how: the options of sampling, and the seed.
        others: values of the options that have no effect on a drawing.

    Raises:
        RunError: the file is no PNG, exists, or is in no folder; a prompt is empty; or an option
            has no effect.
    """
    from ..data.pictures.prompt import PLACEHOLDER
    from ..data.pictures.read import write_picture
    from ..verbs.drawing import sheet

    if artist is None or image is None or any(PLACEHOLDER in text for text in texts):
        return False
    if any(others):
        raise RunError(
            "A drawing has a fixed number of tokens, drawn one after the other: leave out --json, "
            "--max-tokens, --stop, --beams, --draft, --exit-threshold, --kv-bits, --alignment, "
            "--special-tokens and --no-bos."
        )
    if image.exists():
        raise RunError(
            f"{image} exists already. To draw, give --image the name of a new file; to have it "
            "described, leave out --prompt, or write <image> in it where the picture stands."
        )
    check_new(image, "--image", (".png",))
    if not all(text.strip() for text in texts):
        raise RunError("--prompt is empty: name what to draw, as in --prompt 'red apple'.")
    samples, rows = many
    prompts = [artist.picture_prompt(text) for text in texts for _ in range(samples)]
    drawings = artist.draw(prompts, *how, rows=rows)
    columns = samples if samples > 1 else min(len(prompts), 8)
    write_picture(image, sheet(drawings, columns))
    height, width = drawings.shape[1:3]
    count = f"{len(drawings):,} drawings" if len(drawings) > 1 else "a drawing"
    typer.echo(f"{image}: {count} of {width} x {height} pixels", err=True)
    return True
