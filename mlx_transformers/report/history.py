"""The lineage of all recipes as one offline page: years across, families of recipes as colours."""

import inspect
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..assembly import registry as registry  # fills the slots
from ..core.errors import RunError
from ..recipe.catalogue import Listed, listed
from ..recipe.load import SHIPPED
from ..recipe.slot import KINDS
from .page import check_place
from .scripted import HERE, ScriptedPage, asset

DOCS = SHIPPED.parent / "docs"
LARGER = re.compile(r"_(small|base)$")
"""End of the name of a larger size of a tiny recipe, which is left out."""
SLOTS = {"cross": "mixer", "branch": "mixer", "expert": "ffn", "shared": "ffn"}
"""Slots of tables that are called otherwise."""


@dataclass(frozen=True)
class Node:
    """A recipe of the graph.

    Attributes:
        name: its name; `parent`: that of the recipe it extends, "" for a root.
        folder: its folder below recipes/, "" for the chain itself.
        what: its description; `paper`: the papers that it cites.
        year: of its paper, or of the nearest ancestor that has one.
        own_year: whether the year is that of its own paper.
        diff: its text without the comments at the top.
        effect: what it was measured to change, or "" where the docs have no figure.
        links: title and place of its file, those of its kinds, and its page of the docs.
    """

    name: str
    parent: str
    folder: str
    what: str
    paper: str
    year: int
    own_year: bool
    diff: str
    effect: str
    links: list[tuple[str, str]]


def write_history(out: Path) -> Path:
    """Write the page; it may overwrite an earlier one, and nothing else.

    Raises:
        RunError: another file stands there, or the system refuses.
    """
    if out.suffix not in (".html", ".htm"):
        raise RunError(f"--out {out}: end the name with .html.")
    check_place(out)
    recipes = nodes(out.absolute().parent)
    years = sorted({node.year for node in recipes})
    page = ScriptedPage(
        "The history of language models, as recipes",
        f"{len(recipes)} recipes from {years[0]} to {years[-1]}. Each is the text by which it "
        "differs from the recipe that it extends. Choose one: its line is marked, and its text "
        "is below.",
        style=asset(HERE / "history.css"),
        scripts=asset(HERE / "history.js"),
        data={"nodes": [asdict(node) for node in recipes]},
    )
    page.add("graph", "Lineage", '<div id="at-graph"></div>')
    page.add("recipe", "The recipe", '<div id="at-recipe"></div>')
    return page.write(out)


def nodes(near: Path) -> list[Node]:
    """The recipes by year, folder and name; places of links are relative to the folder `near`."""
    recipes = {r.name: r for r in listed() if not LARGER.search(r.name)}
    lineage = {name: list(_ancestors(r, recipes)) for name, r in recipes.items()}
    effects = _effects()
    out = []
    for name, recipe in recipes.items():
        dated = [r.year for r in lineage[name] if r.year is not None]
        text = recipe.path.read_text(encoding="utf-8", errors="replace")
        folder = recipe.path.parent.name
        out.append(
            Node(
                name=name,
                parent=recipe.extends if recipe.extends in recipes else "",
                folder="" if folder == "recipes" or folder == SHIPPED.name else folder,
                what=recipe.what,
                paper=recipe.paper,
                year=dated[0] if dated else 2017,
                own_year=recipe.year is not None,
                diff=re.sub(r"\A(#[^\n]*\n)+", "", text).strip(),
                effect=_effect(recipe, effects),
                links=[(title, _link(path, near)) for title, path in _places(recipe, text)],
            )
        )
    return sorted(out, key=lambda node: (node.year, node.folder, node.name))


def _ancestors(recipe: Listed, recipes: Mapping[str, Listed]) -> Iterator[Listed]:
    """The recipe and those below it, nearest first."""
    visited = set()
    at: Listed | None = recipe
    while at is not None and at.name not in visited:
        visited.add(at.name)
        yield at
        at = recipes.get(at.extends or "")


def _places(recipe: Listed, text: str) -> Iterator[tuple[str, Path]]:
    """Titles and paths of a recipe's file, the kinds that it names, and its page."""
    yield f"{recipe.name}.toml", recipe.path
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        table = {}
    for slot, kind in sorted(set(_kinds(table))):
        path = Path(inspect.getfile(KINDS[slot][kind]))
        yield f"{slot} {kind} ({path.name})", path
    inside = f"`recipes/{recipe.path.parent.name}`"
    pages = [
        *(page for page in _pages() if recipe.name in _words(page)),
        *(page for page in _pages() if inside in _read(page)),
    ]
    if pages:
        yield f"docs: {_title(_read(pages[0]))}", pages[0]


def _kinds(table: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """The slot and the name of each kind that tables name."""
    kind, slot = table.get("kind"), SLOTS.get(name, name)
    slot = next((s for s in KINDS if slot == s or slot.endswith(f"_{s}")), "")
    if isinstance(kind, str) and kind in KINDS.get(slot, {}):
        yield slot, kind
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _kinds(value, key)


@cache
def _pages() -> list[Path]:
    """The pages of the docs, those of the phases first; none where the docs aren't installed."""
    return [*sorted((DOCS / "phases").glob("*.md")), *sorted(DOCS.glob("*.md"))]


@cache
def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def _words(page: Path) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _read(page)))


def _title(page: str) -> str:
    return page.partition("\n")[0].lstrip("# ")


def _effects() -> dict[str, dict[str, Any]]:
    """Measured figures by recipe: the ladder's, and those of all small recipes."""
    out: dict[str, dict[str, Any]] = {}
    for name in ("families.json", "ladder.json"):
        path = DOCS / name
        ladders = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rows = ladders.items() if isinstance(ladders, dict) else ((r["recipe"], r) for r in ladders)
        out |= {Path(recipe).name: row for recipe, row in rows}
    return out


def _effect(recipe: Listed, effects: Mapping[str, dict[str, Any]]) -> str:
    """The measured effect of a recipe, as a sentence."""
    row = effects.get(recipe.name)
    if row is None or row.get("val_bpb") is None:
        return ""
    if row.get("delta_bpb") is not None:
        return (
            f"{row['delta_bpb']:+.3f} bits per byte against {recipe.extends} after "
            f"{row['tokens'] / 1e6:.1f} million tokens (mlxt ladder)."
        )
    if "steps" not in row:
        return f"{row['val_bpb']:.3f} bits per byte (mlxt ladder)."
    after = f"after {row['steps']} steps (tools/families.py)."
    above = effects.get(recipe.extends or "", {})
    if above.get("steps") == row["steps"] and above.get("val_bpb") is not None:
        gain = row["val_bpb"] - above["val_bpb"]
        return f"{gain:+.3f} bits per byte against {recipe.extends} {after}"
    return f"{row['val_bpb']:.3f} bits per byte {after}"


def _link(path: Path, near: Path) -> str:
    """A path as a link from a page in the folder `near`."""
    return Path(os.path.relpath(path, near)).as_posix()
