"""`mlxt generate --image`: a picture beside the prompt."""

from pathlib import Path
from typing import Any

from ..core.errors import RunError


def default_prompt(image: Path | None, prompts: Path | None) -> list[str]:
    """Return the prompts where none is given: a picture alone, if there is one."""
    from ..data.pictures.prompt import PLACEHOLDER

    return [PLACEHOLDER] if image is not None and prompts is None else []


def with_image(
    loaded: tuple[Any, Any], texts: list[str], image: Path | None, others: tuple[object, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the prompts as they are read, and the options that show a picture to the model.

    Args:
        loaded: the model and its tokenizer.
        texts: the prompts.
        image: the file of the picture; None: there is none.
        others: values of the options that don't go with a picture.

    Raises:
        RunError: as `verbs.captioning.with_picture`, or there are several prompts or such options.
    """
    from ..verbs.captioning import with_picture

    if image is not None and (any(others) or len(texts) > 1):
        raise RunError(
            "--image goes with one prompt that is continued once: leave out --samples, --json, "
            "--beams, --draft and --exit-threshold, and give one --prompt."
        )
    shown = [with_picture(*loaded, text, image) for text in texts]
    pixels = shown[0][1]
    return [text for text, _ in shown], {} if pixels is None else {"given": pixels}
