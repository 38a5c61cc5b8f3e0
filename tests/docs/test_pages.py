"""What the pages name exists, what they command parses, what they quote is a recipe."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import mlx_transformers
from mlx_transformers.assembly import registry
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.cli.examples import EXAMPLES
from mlx_transformers.cli.main import app
from mlx_transformers.convert.registry import FAMILIES
from mlx_transformers.recipe.slot import KINDS

from .pages import PAGES, ROOT, Block, blocks, commands, name, prose

MADE_BY_THE_READER = {"recipes/ema_tiny.toml", "mlx_transformers/layers/mixers/ema.py"}
"""Files that a page tells its reader to make."""

every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def every_block(language: str) -> list[Block]:
    """Of all pages; files that a page has its reader make are tried by test_adding_a_layer.py."""
    return [b for page in PAGES for b in blocks(page, language) if b.path is None]


@cache
def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\b((?:mlx_transformers|recipes|tests|tools)/[\w./-]+\.(?:py|toml))", text)
    missing = {path for path in found if not (ROOT / path).exists()}
    assert missing <= MADE_BY_THE_READER


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


@every_page
def test_every_command_parses(page: Path) -> None:
    for words in commands(page):
        parse(words)


def test_every_example_of_a_help_text_parses() -> None:
    for verb, lines in EXAMPLES.items():
        for line in lines:
            words = shlex.split(line)
            assert words[:2] == ["mlxt", verb]
            parse(words[1:])


@pytest.mark.parametrize(
    "words",
    [["trane", "x"], ["train", "x", "--sets", "a=b"], ["eval", "a", "b"], ["data", "lists"]],
    ids=" ".join,
)
def test_a_command_that_is_none_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(AssertionError, match=f"mlxt {words[0]}"):
        parse(words)


@cache
def program() -> Any:
    """The command line of `mlxt`."""
    return typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Parse as the program would, verb after verb, and run nothing."""
    said = f"mlxt {' '.join(words)}"
    command = program()
    rest = list(words)
    while hasattr(command, "get_command") and rest != ["--help"]:
        if not rest and command.invoke_without_command:
            return
        verb = rest.pop(0)
        command = command.get_command(None, verb)
        assert command is not None, f"{said}: there is no '{verb}'"
    if rest == ["--help"]:
        return
    try:
        command.make_context(command.name, rest)
    except Exception as error:  # which class it is depends on typer's version
        raise AssertionError(f"{said}: {error}") from error


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=name)
def test_every_key_that_is_set_exists(page: Path) -> None:
    for words in commands(page):
        recipe = next((w for w in words[1:] if (ROOT / "recipes" / f"{stem(w)}.toml").exists()), "")
        sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        if words[0] == "finetune":  # the model, and so its longest row, is that of another run
            sets = [*sets, "model.max_seq_len=4096"]
        if recipe and sets:
            load_recipe(ROOT / "recipes" / f"{stem(recipe)}.toml", sets)


def stem(word: str) -> str:
    return word.removeprefix("recipes/").removesuffix(".toml")


@pytest.mark.parametrize("block", every_block("toml"), ids=str)
def test_every_recipe_of_a_page_is_one(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's recipe stands where its parent is found: in the clone, or among the recipes."""
    tables = tomllib.loads(block.text)
    if "extends" not in tables:
        return
    monkeypatch.chdir(ROOT)
    parent = Path(tables["extends"])
    beside = ROOT if (ROOT / parent).exists() else ROOT / "recipes"
    text = block.text.replace(f'"{parent}"', f'"{beside / parent}"')
    text = text.replace('from = "', f'from = "{beside}/')
    file = tmp_path / "page.toml"
    file.write_text(text)
    load_recipe(file)


@pytest.mark.parametrize("block", every_block("python"), ids=str)
def test_every_snippet_compiles(block: Block) -> None:
    compile(block.text, name(block.page), "exec")


@pytest.mark.parametrize("block", every_block("python"), ids=str)
def test_every_snippet_gives_what_it_imports_the_arguments_that_it_takes(block: Block) -> None:
    check_calls(block.text)


def test_every_tool_gives_what_it_imports_the_arguments_that_it_takes() -> None:
    for file in (ROOT / "tools").rglob("*.py"):
        check_calls(file.read_text(encoding="utf-8"))


def check_calls(code: str) -> None:
    """Import what `code` takes from the package, and bind its calls to the signatures."""
    nodes = list(ast.walk(ast.parse(code)))
    imported: dict[str, Any] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlx_transformers"):
            exec(ast.unparse(node), imported)
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        words = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        spread = len(words) < len(call.keywords) or any(
            isinstance(argument, ast.Starred) for argument in call.args
        )
        if isinstance(call.func, ast.Name) and call.func.id in imported and not spread:
            with suppress(ValueError):  # exceptions have no signature
                inspect.signature(imported[call.func.id]).bind(*call.args, **words)


def test_every_kind_has_the_name_in_python_that_the_page_says() -> None:
    kinds = {cls for table in KINDS.values() for cls in table.values()}
    others = {
        next(name for name, value in vars(registry).items() if value is cls)
        for cls in kinds
        if getattr(mlx_transformers, cls.__name__, None) is not cls
    }
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"share a class name with another kind:\s([^.]*)\.", page)
    assert set(re.findall(r"`(\w+)`", listed)) == others


def test_the_generated_files_are_current() -> None:
    command = [sys.executable, "tools/docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_number_of_architectures_is_that_of_the_model_types_that_open() -> None:
    n = len({kind for family in FAMILIES for kind in family.model_types})
    assert f"{n} published architectures" in (ROOT / "README.md").read_text("utf-8")
