"""The page of a look: one offline HTML file, and the JSON beside it."""

import dataclasses
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..core.errors import RunError
from ..report.page import check_place
from ..report.scripted import ScriptedPage, asset
from ..runs.durable import replace_text, writing
from .compare import Comparison
from .look import Look
from .packing import COARSE, FINE, FINE_NUMBERS, PLAIN, count, packed, plain
from .patching import Patching

HERE = Path(__file__).parent
MARK = '{"generator": "mlxt look"'
"""Begins the JSON of a look, which may be overwritten."""
SECTIONS = {
    "compare": "Side by side",
    "text": "The text and its predictions",
    "attention": "Attention",
    "heads": "Heads",
    "lens": "Logit lens",
    "stream": "Residual stream",
    "routes": "Experts and depth",
    "attribution": "Attribution",
    "patching": "Activation patching",
    "embedding": "Embeddings",
}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """All that a page shows.

    Attributes:
        text: the text that was read.
        command: the command that made it.
        looks: one or two, by their labels.
        comparison: of two looks.
        patching: between the two texts, where that is possible.
        patching_note: why it isn't.
    """

    text: str
    command: str
    looks: Sequence[tuple[str, Look]]
    comparison: Comparison | None = None
    patching: Patching | None = None
    patching_note: str = ""


def check_places(path: Path) -> None:
    """Refuse to overwrite files that `look` did not write.

    Raises:
        RunError: they are.
    """
    if path.suffix not in (".html", ".htm"):
        raise RunError(f"--out {path}: end the name with .html; the data goes beside it as .json.")
    check_place(path)
    beside = path.with_suffix(".json")
    if beside.exists() and not beside.read_text(encoding="utf-8", errors="replace").startswith(
        MARK
    ):
        raise RunError(f"{beside} exists and is not the data of a look. Choose another --out.")


def write(pictures: Pictures, path: Path) -> tuple[Path, Path]:
    """Write the page and its data; they may overwrite an earlier look, and nothing else.

    Returns:
        The HTML file and the JSON file.

    Raises:
        RunError: other files stand there, or the system refuses.
    """
    check_places(path)
    looks = [look for _, look in pictures.looks]
    levels = FINE if count(looks) <= FINE_NUMBERS else COARSE
    about = {"text": pictures.text, "command": pictures.command}
    shared = {
        "comparison": plain(pictures.comparison),
        "patching": plain(pictures.patching),
        "patching_note": pictures.patching_note,
    }
    small = count(looks) <= PLAIN

    def tree(as_lists: bool) -> list[dict[str, Any]]:
        make = plain if as_lists else lambda look: packed(look, levels)
        return [{"label": label, "look": make(look)} for label, look in pictures.looks]

    page = ScriptedPage(
        "Inside " + pictures.looks[0][0],
        escape(pictures.command),
        '<span id="sides"></span>',
        style=asset(HERE / "look.css"),
        scripts=asset(HERE / "sections.js"),
        data=about | shared | {"looks": tree(False)},
    )
    for name, title in SECTIONS.items():
        page.add(name, title, f'<div id="at-{name}"></div>')
    page.write(path)
    return path, write_data(about | shared | {"looks": tree(small)}, path)


def write_data(data: dict[str, Any], page: Path) -> Path:
    """Write the data of a page beside it, as JSON; halves of characters, which no UTF-8 has, are
    escaped.

    Raises:
        RunError: the system refuses.
    """
    beside = page.with_suffix(".json")
    text = json.dumps({"generator": "mlxt look"} | data, ensure_ascii=False) + "\n"
    with writing(beside):
        replace_text(beside, text.encode(errors="backslashreplace").decode())
    return beside
