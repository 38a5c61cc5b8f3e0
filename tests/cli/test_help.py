"""Help texts are shown whole: markup takes no word out of them, and nothing is without one."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from mlx_transformers.cli.main import app
from mlx_transformers.decode.speculative import LENGTH


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while found:
        words, command = found.pop()
        inner = getattr(command, "commands", {})
        found += [((*words, name), below) for name, below in inner.items()]
        yield words, command


def test_the_default_of_draft_tokens_is_that_of_the_decoder() -> None:
    options = {p.name: p for words, c in commands() if words == ("generate",) for p in c.params}
    assert options["draft_tokens"].show_default == str(LENGTH)


def test_no_help_text_names_a_type_of_python() -> None:
    for words, _ in commands():
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).output
        assert not re.findall(r"<(?:bool|int|float|str|Path|list)\b", shown), words
        assert max(map(len, shown.splitlines())) <= 80


def test_help_texts_keep_every_word() -> None:
    lost = []
    for words, command in commands():
        texts = {parameter.name: getattr(parameter, "help", None) for parameter in command.params}
        assert not words or all(texts.values()), (words, texts)
        marked = [text for text in texts.values() if text and re.search(r"[<>\[\]]", text)]
        if not marked:
            continue
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "3000"}).output
        shown = re.sub(r"[\s│]+", " ", shown)
        lost += [(*words, w) for t in marked for w in t.replace("`", "").split() if w not in shown]
    assert not lost
