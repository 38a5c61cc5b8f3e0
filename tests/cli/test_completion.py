"""Completion as a shell asks for it: recipes, runs, keys of --set."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
        ("finetune first-", ["first-2"]),
        ("train tiny --resume ", ["auto", "runs/first", "runs/first-2", "runs/ladder-x/base"]),
        ("train --set train.st", ["train.steps="]),
        ("train tiny --set model.block.ffn.hid", ["model.block.ffn.hidden_dim="]),
        ("train tiny --set model.block.mixer.n_kv", ["model.block.mixer.n_kv_heads="]),
        ("profile tiny --sweep train.shard", ["train.shard_optimizer="]),
        ("train tinny --set data.cor", ["data.corpus="]),
        ("train tiny --set train.steps=1", []),
        ("generate --tools --set tools.c", ["tools.calculator="]),
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
