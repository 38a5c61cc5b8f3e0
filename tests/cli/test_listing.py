"""Lists of recipes and of runs, and runs that are removed or pruned."""

import json
from pathlib import Path

import pytest

from mlx_transformers.recipe.catalogue import listed, names
from mlx_transformers.runs.folder import RunFolder

from .conftest import Mlxt


def test_every_shipped_recipe_has_a_description() -> None:
    shipped = listed()
    assert len(shipped) == len(names())
    assert not [recipe.name for recipe in shipped if not recipe.what]


@pytest.mark.parametrize(
    ("name", "extends", "year", "cited"),
    [
        ("mistral_tiny", "llama_tiny", 2023, "Jiang et al."),
        ("bert_tiny", None, 2018, "BERT: Pre-training"),
        ("lstm_lm_tiny", "rnn_lm_tiny", 1997, "Long Short-Term Memory"),
    ],
)
def test_a_recipe_is_listed_with_its_parent_paper_and_year(
    name: str, extends: str | None, year: int, cited: str
) -> None:
    (found,) = [recipe for recipe in listed(name) if recipe.name == name]
    assert (found.extends, found.year) == (extends, year)
    assert cited in found.paper
    assert cited not in found.what


def test_recipes_are_found_by_a_word(mlxt: Mlxt, home: Path) -> None:
    found = mlxt("recipes", "alibi").out
    assert "alibi_tiny  (" in found
    assert "M parameters, extends llama_tiny)" in found
    assert "Press, Smith, Lewis 2021" in found
    assert "mistral_tiny" not in found
    everything = mlxt("recipes").out
    assert "mistral_tiny" in everything
    assert "recipes. Papers and sizes: mlxt recipes WORD" in everything
    assert [row["name"] for row in json.loads(mlxt("recipes", "bahdanau_tiny", "--json").out)]
    missing = mlxt("recipes", "mistrall_tiny")
    assert missing.code == 1
    assert "'mistral_tiny'" in missing.err


@pytest.fixture
def trained(mlxt: Mlxt, home: Path) -> Path:
    """Two runs, one with three checkpoints, of which the first is the best."""
    sets = ("checkpoint.every=1", "checkpoint.keep=3", "eval.every=1")
    words = [word for each in sets for word in ("--set", each)]
    assert mlxt("train", "tiny", "--name", "a", *words).code == 0
    assert mlxt("train", "tiny", "--name", "b").code == 0
    return home / "runs"


def test_runs_are_listed_with_what_they_are_and_take(mlxt: Mlxt, trained: Path) -> None:
    rows = {row["name"]: row for row in json.loads(mlxt("runs", "--json").out)}
    assert rows.keys() == {"a", "b"}
    assert (rows["a"]["step"], rows["a"]["steps"], rows["a"]["checkpoints"]) == (3, 3, 3)
    size = sum(path.stat().st_size for path in (trained / "a").rglob("*") if path.is_file())
    assert rows["a"]["bytes"] == size
    shown = mlxt("runs").out
    assert "3 of 3" in shown
    with RunFolder(trained / "b").locked():
        assert "training now" in mlxt("runs").out


def test_a_hidden_run_and_linked_weights_are_counted(mlxt: Mlxt, trained: Path) -> None:
    before = {row["name"]: row["bytes"] for row in json.loads(mlxt("runs", "--json").out)}
    weights = next((trained / "b").rglob("model.safetensors"))
    elsewhere = trained.parent / "elsewhere.safetensors"
    weights.symlink_to(weights.rename(elsewhere))
    (trained / "b").rename(trained / ".b")
    after = {row["name"]: row["bytes"] for row in json.loads(mlxt("runs", "--json").out)}
    assert after == {"a": before["a"], ".b": before["b"]}


def test_pruning_keeps_the_newest_and_the_best(mlxt: Mlxt, trained: Path) -> None:
    run = RunFolder(trained / "a")
    best, newest = run.best(), run.newest()
    assert "Freed" in mlxt("runs", "prune", "a", "--yes").out
    left = set((trained / "a" / "checkpoints").glob("step-*"))
    assert left == {best, newest}
    assert mlxt("eval", "a").code == 0


def test_a_run_is_removed_only_if_no_process_trains_it(mlxt: Mlxt, trained: Path) -> None:
    with RunFolder(trained / "b").locked():
        refused = mlxt("runs", "rm", "a", "b", "--yes")
    assert refused.code == 1
    assert "being trained by another process" in refused.err
    assert {path.name for path in trained.iterdir()} == {"a", "b"}
    assert mlxt("runs", "rm", "a", "--yes").code == 0
    assert {path.name for path in trained.iterdir()} == {"b"}
    assert "no run 'a'" in mlxt("runs", "rm", "a", "--yes").err


def test_a_folder_of_the_users_with_the_name_of_a_run_stays(mlxt: Mlxt, trained: Path) -> None:
    own = trained.parent / "a" / "recipe.toml"
    own.parent.mkdir()
    own.write_text('extends = "tiny"\n')
    assert mlxt("runs", "rm", "a", "--yes").code == 0
    assert {path.name for path in trained.iterdir()} == {"b"}
    refused = mlxt("runs", "rm", "a", "--yes")
    assert refused.code == 1
    assert "a is no run" in refused.err
    assert own.exists()


def test_a_ladder_is_removed_by_its_name_and_files_of_the_user_stay(
    mlxt: Mlxt, trained: Path
) -> None:
    ladder = trained / "ladder-x"
    ladder.mkdir()
    (trained / "b").rename(ladder / "b")
    for name in ("ladder.json", "ladder.csv", "ladder.svg", "report.html", "own.md"):
        (ladder / name).write_text("{}")
    assert "holds some. Name one of them: ladder-x/b." in mlxt("eval", "ladder-x").err
    for name in (".", str(trained)):
        assert mlxt("runs", "rm", name, "--yes").code == 1
    assert mlxt("runs", "rm", "ladder-x", "--yes").code == 0
    assert [path.name for path in ladder.iterdir()] == ["own.md"]
    assert (trained / "a").exists()
    assert "ladder-x is no run: it has no recipe.toml" in mlxt("runs", "rm", "ladder-x", "-y").err


def test_no_runs_are_no_error(mlxt: Mlxt, home: Path) -> None:
    assert "No runs in runs/" in mlxt("runs").out
