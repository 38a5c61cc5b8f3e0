"""Lists the recipes there are, with the description in the comments at the top of each file."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .load import RECIPES, SHIPPED

CITATION = re.compile(r"\b(19|20)\d\d[a-z]?,.*([\"“]|section|equation|chapter|appendix)")
"""A line that cites a paper: a year, then a title in quotes or a place."""
YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


@dataclass(frozen=True)
class Listed:
    """A recipe of the list.

    Attributes:
        name: its file's name without the suffix.
        path: its file.
        extends: name of its parent; None for a root.
        what: its description.
        paper: the papers that it cites; empty if none.
        year: year of the first of them.
    """

    name: str
    path: Path
    extends: str | None
    what: str
    paper: str
    year: int | None

    def matches(self, word: str) -> bool:
        """Whether the name, folder, description or papers contain a word, in any case."""
        text = f"{self.path.parent.name}/{self.name} {self.extends or ''} {self.what} {self.paper}"
        return word.lower() in text.lower()


def listed(word: str | None = None) -> list[Listed]:
    """List the recipes in ./recipes and of the project that contain `word`, by folder and name."""
    recipes = (_read(path) for path in sorted(set(files())))
    return [recipe for recipe in recipes if word is None or recipe.matches(word)]


def files() -> Iterator[Path]:
    """Yield the recipe files of ./recipes and of the project."""
    for folder in (RECIPES, SHIPPED):
        yield from (path.resolve() for path in folder.rglob("*.toml"))


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted({path.stem for path in files()})


def _read(path: Path) -> Listed:
    """Read the comments at the top of a recipe; a file that isn't TOML is listed all the same."""
    text = path.read_text(encoding="utf-8", errors="replace")
    comments = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").strip())
    cited = next((i for i, line in enumerate(comments) if CITATION.search(line)), len(comments))
    paper = " ".join(comments[cited:])
    year = YEAR.search(paper)
    try:
        parent = tomllib.loads(text).get("extends")
    except tomllib.TOMLDecodeError:
        parent = None
    return Listed(
        name=path.stem,
        path=path,
        extends=Path(parent).stem if isinstance(parent, str) else None,
        what=" ".join(comments[:cited]),
        paper=paper,
        year=int(year[1]) if year else None,
    )
