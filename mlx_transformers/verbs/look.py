"""`mlxt look`: the page of what a run's model does inside while it reads a text."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..core.errors import RunError
from ..data.batches.pairs import Pairs
from ..data.tokenizers.tokenizer import Tokenizer
from ..inside.compare import compare
from ..inside.look import look_into
from ..inside.page import Pictures, check_places, write
from ..inside.patching import patch
from ..inside.reading import Reading, read
from ..inside.sight import look_at
from ..inside.sight_page import write_sight
from ..models.clip import ClipModel
from ..models.model import Model
from ..models.vision import VisionModel
from ..runs.folder import RUNS, find_checkpoint


def look_page(
    run: str | Path | None,
    text: str | None,
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
        text: the text to read; None for a model of pictures alone.
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
        MlxtError: there is no such run, it can't be looked into, what it reads isn't given, or the
            files can't be written.
    """
    check_places(out)
    opened = _open(run, root)
    if (tower := _tower(opened.model)) is not None:
        picture = _picture_alone(image, text, edit, against, target)
        return write_sight(opened.name, look_at(tower, picture), command, out)
    text = _text(text, edit, against)
    name, reading = opened.name, opened.read(text, target, image)
    looks = [(name, look_into(reading))]
    if edit is None and against is None:
        return write(Pictures(text, command, looks), out)
    if against is not None:
        second = _open(against, root)
        second_name, beside = second.name, _beside(second, text, target, image)
    else:
        assert edit is not None
        second_name, beside = "the edited text", opened.read(edit, target, image)
        looks = [("the text", looks[0][1])]
    looks.append(
        (second_name if second_name != name else f"{second_name} (again)", look_into(beside))
    )
    pictures = Pictures(text, command, looks, compare(looks[0][1], looks[1][1]))
    if edit is not None:
        try:
            pictures = replace(pictures, patching=patch(reading, beside))
        except RunError as error:
            pictures = replace(pictures, patching_note=str(error))
    return write(pictures, out)


@dataclass(frozen=True)
class Opened:
    """A run's model, and how it reads a text.

    Attributes:
        name: of the run and its checkpoint.
        model, tokenizer: its model and tokenizer.
        pairs: how an encoder-decoder's source and target are framed.
    """

    name: str
    model: Model
    tokenizer: Tokenizer
    pairs: Pairs

    def read(self, text: str, target: str | None, image: Path | None) -> Reading:
        """A text as the model reads it."""
        return read(self.model, self.tokenizer, text, pairs=self.pairs, target=target, image=image)


def _open(run: str | Path | None, root: Path) -> Opened:
    folder, checkpoint = find_checkpoint(run, root)
    model, tokenizer = load(checkpoint)
    batch = load_recipe(folder.recipe).data.batch
    pairs = batch if isinstance(batch, Pairs) else Pairs(start=batch.begins)
    return Opened(f"{folder.name} ({checkpoint.name})", model, tokenizer, pairs)


def _text(text: str | None, edit: str | None, against: str | None) -> str:
    """The text that a model of text reads.

    Raises:
        RunError: there is none, or what is to be shown beside it isn't one other thing.
    """
    if text is None:
        raise RunError("Give a text with --prompt TEXT.")
    if edit is not None and against is not None:
        raise RunError("--edit and --against each fill the other side of the page: give one.")
    if edit == text:
        raise RunError("--edit is the same text as --prompt. Change a token of it.")
    return text


def _beside(second: Opened, text: str, target: str | None, image: Path | None) -> Reading:
    """The text as the other run reads it; an error names that run."""
    if _tower(second.model) is not None:
        raise RunError(f"--against {second.name} reads pictures; compare runs that read text.")
    try:
        return second.read(text, target, image)
    except RunError as error:
        raise RunError(f"--against {second.name}: {error}") from error


def _picture_alone(image: Path | None, *others: str | None) -> Path:
    """The picture that a model of pictures reads.

    Raises:
        RunError: there is none, or something else is given too.
    """
    if any(option is not None for option in others):
        raise RunError(
            "This run's model is looked at while it reads a picture: give --image, and leave "
            "--prompt, --target, --edit and --against out."
        )
    if image is None:
        raise RunError("This run's model reads pictures. Give one with --image FILE.")
    return image


def _tower(model: Model) -> VisionModel | None:
    """The tower of pictures of a model that reads them alone, or compares them with texts."""
    if isinstance(model, ClipModel):
        return model.vision
    return model if isinstance(model, VisionModel) else None
