"""Completion as a shell asks for it: recipes, runs, keys of --set."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mlx_transformers.cli.main import app

from .conftest import Mlxt


@pytest.fixture
def complete(mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Complete the last word of a line as bash does, with runs in the folder."""
    for run in ("first", "first-2", "ladder-x/base"):
        (home / "runs" / run).mkdir(parents=True)
        (home / "runs" / run / "recipe.toml").touch()
    (home / "recipes").mkdir()
    (home / "tiny.toml").rename(home / "recipes" / "tiny.toml")

    def words(line: str) -> list[str]:
        monkeypatch.setenv("_MLXT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"mlxt {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        outcome = mlxt()
        assert not outcome.err
        return outcome.out.split()

    return words


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train tin", ["tiny", "tinybert_tiny"]),
        ("show gpt2_tiny mixtral_", ["mixtral_base", "mixtral_small", "mixtral_tiny"]),
        ("ladder gpt2_tiny mixtral_t", ["mixtral_tiny"]),
        ("bench gpt2_tiny mixtral_t", ["mixtral_tiny"]),
        ("finetune first mixtral_t", ["mixtral_tiny"]),
        ("eval fir", ["first", "first-2"]),
        ("export ladder", ["ladder-x/base"]),
        ("generate --run first-", ["first-2"]),
        ("compare first first-", ["first-2"]),
        ("runs rm first-", ["first-2"]),
        ("verify first-", ["first-2"]),
        ("verify mixtral_t", ["mixtral_tiny"]),
        ("quantize first-", ["first-2"]),
        ("generate --draft first-", ["first-2"]),
        ("finetune first-", ["first-2"]),
        ("train tiny --resume ", ["auto", "runs/first", "runs/first-2", "runs/ladder-x/base"]),
        ("train --set train.st", ["train.steps=", "train.steps=VALUE"]),
        (
            "train tiny --set model.block.ffn.hid",
            ["model.block.ffn.hidden_dim=", "model.block.ffn.hidden_dim=VALUE"],
        ),
        (
            "train tiny --set model.block.mixer.n_kv",
            ["model.block.mixer.n_kv_heads=", "model.block.mixer.n_kv_heads=VALUE"],
        ),
        (
            "profile tiny --sweep train.shard",
            ["train.shard_optimizer=", "train.shard_optimizer=VALUE"],
        ),
        ("train tinny --set data.cor", ["data.corpus=", "data.corpus=VALUE"]),
        ("train tiny --set train.steps=1", []),
        ("generate --tools --set tools.c", ["tools.calculator=", "tools.calculator=VALUE"]),
        ("generate --tools --set train.st", []),
    ],
)
def test_a_word_is_completed(
    complete: Callable[[str], list[str]], line: str, found: list[str]
) -> None:
    assert complete(line) == found


def test_keys_without_a_recipe_are_those_of_every_recipe(
    complete: Callable[[str], list[str]],
) -> None:
    keys = complete("train --set ")
    assert {"train.dtype=", "train.seed=", "eval.every=", "data.path="} <= set(keys)
    assert not any(key.startswith("model.block") for key in keys)


def parameters(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter of a command and of those below it, with its words."""
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters(below, f"{words} {name}".strip())
    yield from ((words, param) for param in command.params)


def test_every_value_that_names_a_run_a_recipe_or_a_key_is_completed() -> None:
    named = re.compile(r"\b(RUN|SRC|RECIPE|KEY)\b")
    lacking = [
        f"{words} {param.name}"
        for words, param in parameters(typer.main.get_command(app))
        if named.search(str(param.metavar)) and param._custom_shell_complete is None
    ]
    assert not lacking
