"""`mlxt look`: the page of what a run's model does inside while it reads a text."""

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
    name, reading = _open(run, root, text, target, image)
    looks = [(name, look_into(reading))]
    if edit is None and against is None:
        return write(Pictures(text, command, looks), out)
    if against is not None:
        other, beside = _open(against, root, text, target, image)
    else:
        assert edit is not None
        other = "the edited text"
        pairs = _pairs(run, root)
        both = (reading.model, reading.tokenizer)
        beside = read(*both, edit, pairs=pairs, target=target, image=image)
        looks = [("the text", looks[0][1])]
    looks.append((other if other != name else f"{other} (again)", look_into(beside)))
    comparison = compare(looks[0][1], looks[1][1])
    pictures = Pictures(text, command, looks, comparison)
    if edit is None:
        return write(pictures, out)
    try:
        return write(Pictures(text, command, looks, comparison, patch(reading, beside)), out)
    except RunError as error:
        return write(Pictures(text, command, looks, comparison, None, str(error)), out)


def _open(
    run: str | Path | None, root: Path, text: str, target: str | None, image: Path | None
) -> tuple[str, Reading]:
    """The name of a run and its checkpoint, and its reading of a text."""
    folder, checkpoint = find_checkpoint(run, root)
    model, tokenizer = load(checkpoint)
    pairs = _pairs(run, root)
    return f"{folder.name} ({checkpoint.name})", read(
        model, tokenizer, text, pairs=pairs, target=target, image=image
    )


def _pairs(run: str | Path | None, root: Path) -> Pairs:
    """How the run's source and target are framed."""
    kind = load_recipe(find_checkpoint(run, root)[0].recipe).data.batch
    return kind if isinstance(kind, Pairs) else Pairs(start=kind.begins)
