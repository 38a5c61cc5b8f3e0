"""`mlxt look`: the page of what a run's model does inside while it reads a text."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..core.errors import RunError
from ..data.batches.pairs import Pairs
from ..inside.compare import compare
from ..inside.look import look_into
from ..inside.page import Pictures, check_places, write
from ..inside.patching import patch
from ..inside.reading import Reading, read
from ..runs.folder import RUNS, find_checkpoint


def look_page(
    run: str | Path | None,
    text: str,
    out: Path,
    *,
    edit: str | None = None,
    target: str | None = None,
    image: Path | None = None,
    against: str | None = None,
    root: Path = RUNS,
    command: str = "",
) -> tuple[Path, Path]:
    """Look into a run, and write the page and its data.

    Args:
        run: a run's name or folder, or None for the newest.
        text: the text to read.
        out: the HTML file; the data goes beside it, as `.json`.
        edit: another text, to be shown beside it.
        target: the target of an encoder-decoder; None: the one that it writes.
        image: a picture file, for a model that sees.
        against: another run, to be shown beside it on the same text.
        root: the folder of runs.
        command: the command line, for the page.

    Returns:
        The HTML file and the JSON file.

    Raises:
        MlxtError: there is no such run, it can't be looked into, or the files can't be written.
    """
    if edit is not None and against is not None:
        raise RunError("--edit and --against each fill the other side of the page: give one.")
    if edit == text:
        raise RunError("--edit is the same text as --prompt. Change a token of it.")
    check_places(out)
    name, reader = _open(run, root, target, image)
    reading = reader(text)
    looks = [(name, look_into(reading))]
    if edit is None and against is None:
        return write(Pictures(text, command, looks), out)
    if against is not None:
        other, reader = _open(against, root, target, image)
        beside = reader(text)
    else:
        assert edit is not None
        other, beside = "the edited text", reader(edit)
        looks = [("the text", looks[0][1])]
    looks.append((other if other != name else f"{other} (again)", look_into(beside)))
    pictures = Pictures(text, command, looks, compare(looks[0][1], looks[1][1]))
    if edit is not None:
        try:
            pictures = replace(pictures, patching=patch(reading, beside))
        except RunError as error:
            pictures = replace(pictures, patching_note=str(error))
    return write(pictures, out)


def _open(
    run: str | Path | None, root: Path, target: str | None, image: Path | None
) -> tuple[str, Callable[[str], Reading]]:
    """The name of a run and its checkpoint, and a function that reads a text with it."""
    folder, checkpoint = find_checkpoint(run, root)
    model, tokenizer = load(checkpoint)
    batch = load_recipe(folder.recipe).data.batch
    pairs = batch if isinstance(batch, Pairs) else Pairs(start=batch.begins)
    return f"{folder.name} ({checkpoint.name})", partial(
        read, model, tokenizer, pairs=pairs, target=target, image=image
    )
