"""Runs as a user treats them: named, resumed, damaged, moved, asked for text."""

import json
import os
import shlex
from pathlib import Path

import pytest

from .conftest import RECIPE, Mlxt
from .test_bad_input import refused


@pytest.fixture
def trained(mlxt: Mlxt, home: Path) -> Path:
    """The folder of a run of three steps."""
    assert mlxt("train", "tiny").code == 0
    return home / "runs" / "tiny"


def test_training_says_what_it_does_and_what_comes_next(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("train", "tiny", "--name", "first")
    assert outcome.code == 0
    assert "Preparing the data: tokenizing" in outcome.err
    assert "Compiling the first step ..." in outcome.out
    assert "Iter 3: Train loss" in outcome.out
    assert 'Continue with: mlxt generate --run runs/first --prompt "..."' in outcome.out


def test_a_name_that_is_taken_is_refused_and_nothing_changes(mlxt: Mlxt, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    refused(mlxt("train", "tiny", "--name", "tiny"), "'tiny' exists already", "--resume auto")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_another_recipe_does_not_resume_a_run(mlxt: Mlxt, trained: Path) -> None:
    resume = ["train", "tiny", "--resume", "auto", "--steps", "6"]
    refusal = mlxt(*resume, "--set", "model.dim=8")
    refused(refusal, "model.dim: 16 there, 8 here", "another --name")
    cure = shlex.split(refusal.err.partition("(mlxt ")[2].partition(")")[0])
    assert mlxt(*cure, "--steps", "4").code == 0
    outcome = mlxt(*resume)
    assert outcome.code == 0
    assert "Iter 6: Val loss" in outcome.out


def test_a_misspelt_run_is_named(mlxt: Mlxt, trained: Path) -> None:
    for verb in (["train", "tiny", "--resume"], ["generate", "--prompt", "a", "--run"], ["eval"]):
        refused(mlxt(*verb, "tyny"), "There is no run 'tyny'", "Did you mean 'tiny'?")


@pytest.mark.parametrize("verb", [["generate", "--prompt", "a"], ["eval"]])
def test_before_any_run_the_error_says_how_to_train_one(mlxt: Mlxt, verb: list[str]) -> None:
    refused(mlxt(*verb), "There is no trained run in runs/", "mlxt train recipes/mistral_tiny.toml")


def test_a_run_without_a_checkpoint_says_how_to_train_it(mlxt: Mlxt, trained: Path) -> None:
    for path in sorted((trained / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    refused(mlxt("eval", "tiny"), "no checkpoint yet", "--name tiny --resume auto")


def test_a_damaged_checkpoint_is_refused_by_every_verb(mlxt: Mlxt, trained: Path) -> None:
    file = trained / "checkpoints" / "step-000003" / "model.safetensors"
    content = file.read_bytes()
    for damaged in (content[:99], content[:-4] + b"0000", None):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        for verb in (
            ["eval"],
            ["generate", "--prompt", "a"],
            ["train", "tiny", "--resume", "auto", "--steps", "6"],
        ):
            refused(mlxt(*verb), "step-000003 is damaged", "model.safetensors")


def test_a_text_that_vanished_or_changed_is_named(mlxt: Mlxt, trained: Path, home: Path) -> None:
    text = home / "text.txt"
    resume = ["train", "tiny", "--resume", "auto", "--steps", "6"]
    text.write_text(text.read_text() * 2)
    refused(mlxt(*resume), "was trained on other data", "Name the old text")
    text.unlink()
    for verb in (resume, ["eval"], ["data", "inspect", "tiny"]):
        refused(mlxt(*verb), "data.path 'text.txt': there is no such file", "data.path=FILE")
    assert mlxt("generate", "--prompt", "a", "--max-tokens", "4").code == 0


def test_the_next_command_can_be_pasted_into_a_shell(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("train", "tiny", "--name", "my run")
    next_command = outcome.out.strip().splitlines()[-1].removeprefix("Continue with: ")
    words = shlex.split(next_command)
    assert words[:4] == ["mlxt", "generate", "--run", "runs/my run"]
    assert mlxt(*words[1:5], "a").code == 0


def test_a_prompt_that_cannot_be_continued_is_refused(mlxt: Mlxt, trained: Path) -> None:
    for options, named in (
        (["--prompt", "the king of love and sorrow"], "27 tokens"),
        (["--prompt", ""], "The prompt is empty"),
        (["--prompt", "the \u03a9"], "'\u03a9' (at 4)"),
        (["--prompt", "a", "--temp", "-1"], "temp = -1.0 is out of range"),
        (["--prompt", "a", "--max-tokens", "0"], "max_tokens = 0"),
    ):
        refused(mlxt("generate", *options), named)


def test_a_run_that_fails_at_its_start_leaves_no_folder(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_transformers.core.errors import RunError
    from mlx_transformers.verbs import train

    def fail(*arguments: object) -> None:
        raise RunError("The tracker refuses. Try again.")

    monkeypatch.setattr(train, "trackers", fail)
    refused(mlxt("train", "tiny"), "The tracker refuses")
    assert not list((home / "runs").iterdir())


def test_interrupting_the_preparation_starts_no_run(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_transformers.data import prepare

    def interrupted(*arguments: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_write_piece", interrupted)
        outcome = mlxt("train", "tiny")
    assert outcome.code == 130
    assert "Interrupted while preparing the data (training the tokenizer)" in outcome.err
    assert not (home / "runs").exists()
    assert mlxt("train", "tiny").code == 0


def test_a_ladder_ends_in_a_table_and_files(mlxt: Mlxt, home: Path) -> None:
    (home / "wide.toml").write_text('extends = "tiny.toml"\nmodel.block.ffn.hidden_dim = 32\n')
    outcome = mlxt("ladder", "wide")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("recipe"))
    assert [line.split()[0] for line in lines[head + 1 : head + 3]] == ["tiny", "wide"]
    rows = json.loads((home / "runs" / "ladder-wide" / "ladder.json").read_text())
    assert [row["recipe"] for row in rows] == ["tiny", "wide"]
    assert rows[1]["delta_bpb"] == rows[1]["val_bpb"] - rows[0]["val_bpb"]
    assert "tiny has all of its 3 steps already" in mlxt("ladder", "wide").out


def test_every_rung_takes_the_budget_of_the_last_and_the_first_can_be_chosen(
    mlxt: Mlxt, home: Path
) -> None:
    (home / "longer.toml").write_text('extends = "tiny.toml"\ntrain.steps = 5\n')
    (home / "wider.toml").write_text('extends = "longer.toml"\nmodel.block.ffn.hidden_dim = 32\n')
    assert mlxt("ladder", "wider").code == 0
    rows = json.loads((home / "runs" / "ladder-wider" / "ladder.json").read_text())
    assert len({row["tokens"] for row in rows}) == 1
    assert len(rows) == 3
    assert mlxt("ladder", "wider", "--from", "longer", "--name", "part").code == 0
    rows = json.loads((home / "runs" / "part" / "ladder.json").read_text())
    assert [row["recipe"] for row in rows] == ["longer", "wider"]
    refused(mlxt("ladder", "wider", "--from", "langer"), "'langer'", "'longer'")


def test_a_folder_that_may_not_be_written_to_is_refused(mlxt: Mlxt, home: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (home / "locked").mkdir(mode=0o555)
    refused(mlxt("train", "tiny", "--runs", "locked"), "locked can't be written to", "--runs")


def test_a_missing_key_is_named(mlxt: Mlxt, home: Path) -> None:
    (home / "less.toml").write_text(RECIPE.replace('placement = "pre"\n', ""))
    refused(mlxt("train", "less"), "[model.block] lacks 'placement'")
