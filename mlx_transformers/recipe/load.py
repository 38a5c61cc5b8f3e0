"""Reads recipes: resolves `extends`, `from`, `unset` and `--set`, with provenance of each key.

A recipe is a TOML file, a diff against its parent. `resolve` walks the chain from
the root down, merges (recipe/merge.py), and returns plain tables with the recipe that set each
key. Nothing is typed here: recipe/validate.py does that.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.errors import FormatError, RecipeError
from ..core.names import nearest
from ..core.parse import RECIPE, parse_toml, read_bytes
from ..core.paths import command_line, expanded, shown
from .merge import Leaf, Table, bare, descend, dotted, expand, leaves, merge, stamp, without
from .overrides import FLAGS, SET, parse_sets

LONGEST_CHAIN = 50
"""Recipes that one may be made of, through `extends` or through `from`."""

WIDTH = 96
"""Characters that an error shows of a line."""

LISTED = 20
"""Names of recipes that an error lists, the nearest where there are more."""

RECIPES = Path("recipes")
"""The folder where bare recipe names are looked up, beside the current one."""

_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = next(
    (f for f in (_PACKAGE / "recipes_data", _PACKAGE.parent / "recipes") if f.is_dir()), RECIPES
)
"""The recipes that come with the project, looked up last."""


@dataclass(frozen=True)
class Resolved:
    """A recipe with its whole chain merged.

    Attributes:
        data: plain nested tables; blocks are full tables; no `extends`, `unset` or `from` left.
        origin: for each dotted path of a value, the recipe that set it: a file, relative to the
            folder of the recipe asked for, or the option of the command line.
        chain: the recipes merged, root first; "--set" last when there were any.
    """

    data: Table
    origin: dict[str, str]
    chain: list[Path | str]

    @property
    def files(self) -> list[Path]:
        """Files of the chain, the root first."""
        return [link for link in self.chain if isinstance(link, Path)]

    def set_at(self, path: str) -> int | None:
        """Return the place in `chain` of the recipe that set a key; None if none did."""
        where = self.origin.get(path)
        where = SET if where in FLAGS else where
        home = self.files[-1].parent if self.files else Path.cwd()
        names = [_where(link, home) if isinstance(link, Path) else link for link in self.chain]
        return names.index(where) if where in names else None

    @property
    def name(self) -> str:
        """The recipe's name: that of its file without the suffix."""
        return self.files[-1].stem if self.files else str(self.chain[-1])


def resolve(recipe: str | Path, sets: Iterable[str] = ()) -> Resolved:
    """Read a recipe by name or path, with its parents, and `--set` strings as the last diff.

    Raises:
        RecipeError: a file that is missing or isn't TOML, a loop, a path that can't be unset.
    """
    sets = list(sets)
    files = _read_chain(find(recipe))
    reader = _Reader(home=files[-1][0].parent)
    tree = reader.merged(files)
    links: list[Path | str] = [path for path, _ in files]
    if sets:
        tree = reader.step(tree, parse_sets(sets), SET, None, ())
        links.append(SET)
    return _resolved(tree, links)


def resolve_data(data: Table, where: str = "recipe") -> Resolved:
    """Wrap a table as a recipe without a parent."""
    reader = _Reader(home=Path.cwd())
    return _resolved(reader.step({}, data, where, None, ()), [where])


def chain(recipe: str | Path) -> list[Path]:
    """List the files of a recipe's chain, the root of `extends` first.

    Raises:
        RecipeError: as `resolve`.
    """
    return [path for path, _ in _read_chain(find(recipe))]


def find(recipe: str | Path, folders: Sequence[Path] | None = None) -> Path:
    """Find the file of a recipe by path or bare name.

    Looked for here, in ./recipes and its folders, and among the recipes of the project.

    Raises:
        RecipeError: no such file (the nearest names), or several of that name.
    """
    named_path = expanded(recipe)
    folders = [Path(), RECIPES, SHIPPED] if folders is None else folders
    names = [named_path]
    if named_path.name and named_path.suffix != ".toml":
        names.append(named_path.with_name(f"{named_path.name}.toml"))
    if named_path.parts[:1] == RECIPES.parts and len(named_path.parts) > 1:
        # As the README writes it, wherever the reader is.
        names += [name.relative_to(RECIPES) for name in names]
    for candidate in (folder / name for folder in folders for name in names):
        if candidate.is_file():
            return candidate.resolve()
    for folder in folders:
        if named_path.parent == Path() and named_path.name and folder != Path():
            deep = sorted(path for path in folder.rglob(names[-1].name) if path.is_file())
            if len(deep) > 1:
                several = ", ".join(map(str, deep))
                raise RecipeError(f"Several recipes are called '{recipe}': {several}. Give a path.")
            if deep:
                return deep[0].resolve()
    for run in (named_path, Path("runs") / named_path):
        if str(recipe) and (file := run / "recipe.toml").is_file():
            raise RecipeError(
                f"'{recipe}' is a run, not a recipe. Its recipe is {shown(str(file))}."
            )
    places = [folder / named_path.parent for folder in folders]
    if str(recipe) and named_path.is_dir():
        inside = _near(Path(), [named_path]) or " Give one of its .toml files; it holds none."
        raise RecipeError(f"'{recipe}' is a folder, not a recipe.{inside}")
    hint = _near(named_path, places) or _near(Path(named_path.name), folders)
    raise RecipeError(f"There is no recipe '{recipe}'.{hint}")


def read(path: Path) -> Table:
    """Parse one recipe file, without its parents.

    Raises:
        RecipeError: the file can't be read, isn't UTF-8 or isn't TOML (with the line), or is beyond
            the limits of `core.parse.RECIPE`.
    """
    name = _shown(path)
    try:
        text = read_bytes(path, RECIPE).decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{name} can't be read: {error.strerror}.") from error
    except FormatError as error:
        raise RecipeError(str(error)) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        raise RecipeError(f"{name} isn't UTF-8 text ({problem}). Save it as UTF-8.") from error
    try:
        return parse_toml(text, name)
    except tomllib.TOMLDecodeError as error:
        if path.suffix != ".toml":
            command = command_line("train", "RECIPE", "--data", name)
            raise RecipeError(
                f"{name} is no recipe, which is a .toml file. To train on it as text: {command}"
            ) from None
        raise RecipeError(_syntax(name, text, str(error))) from None
    except FormatError as error:
        raise RecipeError(str(error)) from None


@dataclass(frozen=True)
class _Reader:
    """Merges files into one tree of `Leaf`s whose `where` is relative to `home`."""

    home: Path

    def merged(self, files: list[tuple[Path, Table]], trail: tuple[Path, ...] = ()) -> Table:
        tree: Table = {}
        for path, data in files:
            where = _where(path, self.home)
            tree = self.step(tree, data, where, path, trail)
        return tree

    def step(
        self, tree: Table, data: Table, where: str, path: Path | None, trail: tuple[Path, ...]
    ) -> Table:
        """Merge one recipe onto `tree`; `path` is None for a recipe that isn't a file."""
        keys = {key: value for key, value in data.items() if key not in ("extends", "unset")}
        if "extends" in data and path is None:
            raise RecipeError(f"{where}: 'extends' can only stand in a recipe file.")
        if "from" in data:
            raise RecipeError(
                f"{where}: 'from' can't stand at the top of a recipe: it belongs in the table of "
                f"a model, e.g. [teacher]. The parent of a recipe is named by 'extends'."
            )
        places: list[tuple[str, ...]] = []
        child = self._bring(stamp(keys, where), (), (where, path, trail), places)
        for place in places:
            tree = without(tree, place)
        return descend(tree, child, _unset(data, where), where)

    def _bring(
        self,
        table: Table,
        place: tuple[str, ...],
        by: tuple[str, Path | None, tuple[Path, ...]],
        brought: list[tuple[str, ...]],
    ) -> Table:
        """Replace each `from` in `table` by the [model] that it names."""
        diff = {
            key: self._bring(value, (*place, key), by, brought)
            if isinstance(value, dict)
            else value
            for key, value in table.items()
            if key != "from"
        }
        if "from" not in table:
            return diff
        brought.append(place)
        return merge(self._model(table["from"], place, *by), diff)

    def _model(
        self,
        source: Leaf | Table,
        place: tuple[str, ...],
        where: str,
        path: Path | None,
        trail: tuple[Path, ...],
    ) -> Table:
        table_name = f"[{dotted(place)}] of {where}"
        if not isinstance(source, Leaf) or not isinstance(source.value, str):
            raise RecipeError(f"{table_name}: 'from' must be the file name of a recipe.")
        if path is None:
            file = find(source.value, [Path(), self.home, RECIPES, SHIPPED])
        else:
            file = _relative(source.value, path, f"{table_name} takes its model from")
        trail = (*trail, path) if path is not None else trail
        if len(trail) > LONGEST_CHAIN:
            raise RecipeError(_too_long("from", trail[0]))
        if file in trail and place[0] == "model":
            raise RecipeError(f"'from' goes in a circle: {_arrows([*trail, file])}.")
        files = [(link, _model_only(data)) for link, data in _read_chain(file)]
        tree = self.merged(files, trail)
        model = tree.get("model")
        if not isinstance(model, dict):
            raise RecipeError(
                f"{table_name} takes its model from {file.name}, which has no [model]."
            )
        return model


def _where(path: Path, home: Path) -> str:
    """Return how a file is named as the origin of a key."""
    return Path(os.path.relpath(path, home)).as_posix()


def _resolved(tree: Table, links: list[Path | str]) -> Resolved:
    full = expand(tree)
    origin = {dotted(path): leaf.where for path, leaf in leaves(full)}
    return Resolved(bare(full), origin, links)


def _read_chain(path: Path) -> list[tuple[Path, Table]]:
    """Read the files from the root of `extends` down to `path`."""
    files: list[tuple[Path, Table]] = []
    file: Path | None = path
    while file is not None:
        if len(files) == LONGEST_CHAIN:
            raise RecipeError(_too_long("extends", path))
        if file in (ancestors := [link for link, _ in files]):
            raise RecipeError(f"'extends' goes in a circle: {_arrows([*ancestors, file])}.")
        data = read(file)
        files.append((file, data))
        parent = data.get("extends")
        if parent is not None and not isinstance(parent, str):
            raise RecipeError(
                f"{_shown(file)}: 'extends' is {parent!r}, but it names one parent: a file name "
                f'in quotes, e.g. extends = "base_tiny.toml".'
            )
        file = None if parent is None else _relative(parent, file, f"{_shown(file)} extends")
    return files[::-1]


def _relative(name: str, by: Path, subject: str) -> Path:
    """Resolve the path `name` in recipe `by`."""
    path = by.parent / expanded(name)
    if path.is_file():
        return path.resolve()
    near = _near(Path(name), [path.parent])
    raise RecipeError(
        f"{subject} '{name}', but there is no such file in {_shown(path.parent)}.{near}"
    )


def _near(path: Path, folders: Iterable[Path]) -> str:
    """Suggest the recipe nearest to `path`, and list the recipes there are."""
    names = {p.name for folder in folders for p in _recipes_in(folder)}
    if not names:
        return ""
    match = nearest(path.stem, {name.removesuffix(".toml") for name in names})
    hint = f" Did you mean '{match}.toml'?" if match and path.suffix else ""
    hint = f" Did you mean '{match}'?" if match and not path.suffix else hint
    if len(names) <= LISTED:
        return f"{hint} There are: {', '.join(sorted(names))}."
    nearest_ones = get_close_matches(path.stem, sorted(names), 5, cutoff=0.0)
    return (
        f"{hint} The nearest of {len(names)}: {', '.join(nearest_ones)}. "
        "`mlxt recipes` lists them all."
    )


def _recipes_in(folder: Path) -> Iterable[Path]:
    """List the recipes of a folder; subfolders count only if they hold nothing but recipes."""
    is_ours = folder in (RECIPES, SHIPPED)
    files = folder.rglob("*.toml") if is_ours else folder.glob("*.toml")
    return (path for path in files if path.name != "pyproject.toml")


def _model_only(data: Table) -> Table:
    """Keep the tables of a recipe that concern its [model]."""
    table = {key: value for key, value in data.items() if key == "model"}
    if isinstance(data.get("unset"), list):
        table["unset"] = [p for p in data["unset"] if isinstance(p, str) and _is_model(p)]
    return table


def _is_model(path: str) -> bool:
    return path == "model" or path.startswith("model.")


def _unset(data: Table, where: str) -> list[str]:
    unset: Any = data.get("unset", [])
    if not isinstance(unset, list) or not all(isinstance(path, str) for path in unset):
        raise RecipeError(
            f"{where}: 'unset' must be a list of paths in quotes, "
            f'e.g. unset = ["model.block.mixer.window"].'
        )
    return unset


def _syntax(shown: str, text: str, message: str) -> str:
    lines = text.splitlines() or [""]
    at = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    number, column = (int(at[1]), int(at[2])) if at else (len(lines), len(lines[-1]) + 1)
    number = min(number, len(lines))
    problem = re.sub(r" \(at [^)]*\)$", "", message)
    start = max(0, column - WIDTH // 2)
    line = lines[number - 1].replace("\t", " ")[start : start + WIDTH]
    return (
        f"{shown}, line {number}: {problem}.\n"
        f"    {line}\n    {' ' * (column - start - 1)}^\n"
        f'A line of TOML is [table] or key = value, with strings in quotes: kind = "glu".'
    )


def _too_long(key: str, start: Path) -> str:
    return (
        f"The chain of '{key}' from {_shown(start)} has more than {LONGEST_CHAIN} recipes, the "
        "limit. Merge some of them: mlxt show RECIPE prints one resolved."
    )


def _arrows(paths: list[Path]) -> str:
    """Format a loop, `a.toml → b.toml → a.toml`, from the first appearance of the last file."""
    first = paths.index(paths[-1])
    return " → ".join(path.name for path in paths[first:])


def _shown(path: Path) -> str:
    """Path relative to the working folder if it lies below it, else absolute."""
    full = path.resolve()
    working_folder = Path.cwd()
    return (
        str(full.relative_to(working_folder)) if full.is_relative_to(working_folder) else str(full)
    )
