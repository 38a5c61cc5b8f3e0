"""Several seeds of a recipe, comparisons of runs, dry runs, and what short runs are told."""

import json
from pathlib import Path

import pytest

from .conftest import Mlxt


def last(home: Path, run: str) -> float:
    rows = [
        json.loads(line) for line in (home / "runs" / run / "log.jsonl").read_text().splitlines()
    ]
    return [row["val_bpb"] for row in rows if "val_bpb" in row][-1]


@pytest.fixture
def seeds(mlxt: Mlxt, home: Path) -> Path:
    """Two recipes, each trained with three seeds."""
    for name, sets in (("a", ()), ("b", ("--set", "optim.learning_rate=0.03"))):
        done = mlxt("train", "tiny", "--seeds", "1,2,3", "--name", name, *sets)
        assert done.code == 0, done.err
    return home


def test_runs_of_several_seeds_are_compared_pair_by_pair(mlxt: Mlxt, seeds: Path) -> None:
    names = [f"{name}-seed{n}" for name in "ab" for n in (1, 2, 3)]
    found = json.loads(mlxt("compare", *names, "--json").out)
    first, second = found["groups"]
    assert [first["name"], second["name"]] == ["a", "b"]
    values = {name: last(seeds, name) for name in names}
    assert first["values"] == {str(n): values[f"a-seed{n}"] for n in (1, 2, 3)}
    each = [values[f"b-seed{n}"] - values[f"a-seed{n}"] for n in (1, 2, 3)]
    assert second["delta"]["mean"] == pytest.approx(sum(each) / 3)
    assert second["delta"]["n"] == 3
    shown = mlxt("compare", *names).out
    assert "b against a: " in shown
    assert shown.count("±") == 4
    twice = mlxt("compare", "a-seed1", "b-seed1", str(seeds / "runs" / "a-seed1"))
    assert "both have one recipe and seed 1" in twice.err
    one = mlxt("compare", "a-seed1", "b-seed1").out
    assert "of one seed, which can't tell how much is chance" in one
    assert "a alone: name a run of another recipe" in mlxt("compare", "a-seed1", "a-seed2").out


def test_training_several_seeds_ends_in_their_mean(mlxt: Mlxt, home: Path) -> None:
    done = mlxt("train", "tiny", "--seeds", "4,5")
    mean = (last(home, "tiny-seed4") + last(home, "tiny-seed5")) / 2
    assert f"Validation bits/byte of 2 seeds: {mean:.4f} ± " in done.out
    assert "tiny-seed4" in mlxt("train", "tiny", "--seeds", "4,5", "--resume", "auto").out
    assert mlxt("train", "tiny", "--seeds", "4,4").code == 2
    assert "a seed is at most" in mlxt("train", "tiny", "--seeds", f"4,{2**31}").err


def test_a_dry_run_leaves_no_run(mlxt: Mlxt, home: Path) -> None:
    done = mlxt("train", "tiny", "--dry-run")
    assert done.code == 0, done.err
    assert "Dry run: the first step works." in done.out
    assert not (home / "runs").exists()


@pytest.mark.parametrize("flags", ["--seeds 1,2 --dry-run", "--supervise --dry-run"])
def test_ways_to_train_that_exclude_each_other_train_nothing(
    mlxt: Mlxt, home: Path, flags: str
) -> None:
    outcome = mlxt("train", "tiny", *flags.split())
    assert outcome.code == 2
    assert "--dry-run don't go together" in outcome.err
    assert not (home / "runs").exists()


def test_options_have_the_names_that_other_tools_give_them(mlxt: Mlxt, home: Path) -> None:
    (home / "2024").mkdir()
    (home / "2024" / "other.txt").write_text("to be or not to be that is the question " * 40)
    done = mlxt("train", "tiny", "--data", "2024", "--iters", "4", "--lr", "0.02", "--name", "a")
    assert done.code == 0, done.err
    text = (home / "runs" / "a" / "recipe.toml").read_text()
    for line in ('path = "2024"', "steps = 4", "learning_rate = 0.02"):
        assert line in text


def test_a_run_that_options_shorten_evaluates_four_times(mlxt: Mlxt, home: Path) -> None:
    (home / "long.toml").write_text(
        'extends = "tiny.toml"\ntrain.steps = 400\neval.every = 100\nlog.every = 100\n'
    )
    done = mlxt("train", "long", "--steps", "8", "--name", "a")
    assert "Evaluating every 2 steps instead of 100" in done.out
    rows = [
        json.loads(line) for line in (home / "runs" / "a" / "log.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4, 6, 8]
    assert [row["step"] for row in rows if "train_loss" in row] == [2, 4, 6, 8]
    kept = mlxt("train", "long", "--steps", "8", "--set", "eval.every=100", "--name", "b")
    assert "Evaluating every" not in kept.out


def test_a_warm_up_that_outlasts_the_run_is_warned_of(mlxt: Mlxt, home: Path) -> None:
    sets = ("--set", "optim.schedule={kind='cosine', warmup=30}")
    done = mlxt("train", "tiny", "--name", "a", *sets)
    assert "the warm-up of 30 steps is not over when the run ends at step 3" in done.out
    assert "only reaches 10% of optim.learning_rate" in done.out
    assert "Warning: the warm-up" not in mlxt("train", "tiny", "--name", "b").out
