"""Runs whose text, tokenizer or folder is somewhere else now; paths with a home folder."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import DataError, Notice, RecipeError, RunError
from mlx_transformers.verbs.evaluate import evaluate
from mlx_transformers.verbs.finetune import finetune
from mlx_transformers.verbs.train import train

from .conftest import Mlxt

TEXT = "Some text that is long enough to be read, with a line end.\n" * 60


@pytest.fixture
def moved(home: Path, mlxt: Mlxt) -> Path:
    """The folder of a run of three steps, whose text was moved to new/text.txt."""
    (home / "a.txt").write_text(TEXT)
    train(load_recipe("tiny", ["data.path=a.txt", "train.steps=3"]), name="a", say=str)
    (home / "new").mkdir()
    (home / "a.txt").rename(home / "new" / "text.txt")
    return home


def test_a_run_is_told_where_its_text_went(moved: Path, mlxt: Mlxt) -> None:
    shutil.rmtree(moved / "cache" / "data")
    lost = mlxt("eval", "a")
    assert lost.code == 1
    assert "If it was moved, say where it is now: --set data.path=FILE" in lost.err
    found = json.loads(mlxt("eval", "a", "--set", "data.path=new/text.txt", "--json").out)
    assert found["val_loss"] > 0
    more = ["data.path=new/text.txt", "train.steps=4"]
    assert train(load_recipe("tiny", more), resume="runs/a", say=str).progress.step == 4
    # From now on the run knows it itself.
    assert mlxt("eval", "a").code == 0


def test_another_text_is_refused_by_its_fingerprint(moved: Path, mlxt: Mlxt) -> None:
    (moved / "other.txt").write_text(TEXT + "And one line more.\n")
    with pytest.raises(RunError, match=r"other data than data.* gives now.*--set data.path=FILE"):
        evaluate("a", set=["data.path=other.txt"])


@pytest.mark.parametrize("key", ["train.steps", "train.seed", "log.every", "data.seed", "stpes"])
def test_a_key_that_eval_does_not_read_is_refused(moved: Path, key: str) -> None:
    with pytest.raises(RunError, match=rf"^--set {key}: .*Only data.path, .*eval.batch_size"):
        evaluate("a", set=[f"{key}=3"])


def test_a_prepared_set_with_the_fingerprint_is_used_where_the_text_is_gone(moved: Path) -> None:
    with pytest.warns(Notice, match="has the same fingerprint and is used"):
        _, values = evaluate("a")
    assert values["val_loss"] > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        recipe = load_recipe("runs/a/recipe.toml", ["train.steps=4"])
        assert train(recipe, resume="runs/a", say=str).progress.step == 4
    shutil.rmtree(moved / "cache" / "data")
    with pytest.raises(DataError, match="no such file"):
        evaluate("a")


def test_runs_that_were_renamed_or_moved_keep_their_tokenizer(moved: Path, mlxt: Mlxt) -> None:
    sets = ["data.path=new/text.txt", "train.steps=2"]
    finetune("a", "tiny", set=sets, name="b", say=str)
    shutil.rmtree(moved / "runs" / "a")
    (moved / "elsewhere").mkdir()
    (moved / "runs" / "b").rename(moved / "elsewhere" / "c")
    place = "elsewhere/c"
    assert mlxt("eval", place).code == 0
    more = load_recipe(f"{place}/recipe.toml", ["train.steps=3"])
    assert train(more, resume=place, say=str).progress.step == 3


def test_a_home_folder_is_found_in_options_and_names(
    home: Path, mlxt: Mlxt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home / "me"))
    (home / "me").mkdir()
    shutil.copy(home / "tiny.toml", home / "me" / "mine.toml")
    (home / "me" / "a.txt").write_text(TEXT)
    done = mlxt("train", "~/mine.toml", "--set", "data.path=~/a.txt", "--runs=~/exps", "--name=a")
    assert done.code == 0, done.err
    assert not (home / "~").exists()
    assert mlxt("eval", "~/exps/a").code == 0
    assert mlxt("report", "~/exps/a", "--out=~/r.html").code == 0
    assert (home / "me" / "r.html").is_file()


@pytest.mark.parametrize(
    ("own", "sets", "named"),
    [
        ('corpus = "stdlib"\npath = "text.txt"', [], "data.path"),
        ('path = "text.txt"', ['data.corpus="stdlib"'], "data.path"),
        ("", ["data.corpus=stdlib", "data.path=text.txt"], "data.path"),
        ('dataset = "a/b"\ncorpus = "stdlib"', [], "data.dataset"),
    ],
)
def test_a_corpus_beside_a_path_is_an_error_that_names_unset(
    home: Path, own: str, sets: list[str], named: str
) -> None:
    parent = re.sub(r'path = "[^"]*"', 'corpus = "stdlib"', (home / "tiny.toml").read_text())
    (home / "parent.toml").write_text(parent)
    (home / "child.toml").write_text(f'extends = "parent.toml"\n[data]\n{own}\n')
    with pytest.raises(RecipeError, match=rf'two texts.*unset = \["{named}"\]'):
        load_recipe("child.toml", sets)


def test_a_path_replaces_the_corpus_that_it_inherits(home: Path) -> None:
    parent = re.sub(r'path = "[^"]*"', 'corpus = "stdlib"', (home / "tiny.toml").read_text())
    (home / "parent.toml").write_text(parent)
    (home / "child.toml").write_text('extends = "parent.toml"\n[data]\npath = "text.txt"\n')
    assert load_recipe("child.toml").data.path == "text.txt"
    assert load_recipe("parent.toml", ["data.path=text.txt"]).data.path == "text.txt"
    unset = load_recipe("child.toml", ['unset=["data.path"]'])
    assert (unset.data.path, unset.data.corpus) == (None, "stdlib")
