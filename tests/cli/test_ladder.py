"""Ladders of other tasks than language modelling, of lists, and over seeds."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.core.loss import Best
from mlx_transformers.report.table import Rung, markdown, read, verdicts
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.verbs import ladder, scale, sweep
from mlx_transformers.verbs.tuning import parse_tuning, tuned

from .conftest import Mlxt

SHIPPED = Path(__file__).parents[2] / "recipes"


def names(recipe: str | list[str]) -> list[str]:
    """The rungs of a ladder, without training them."""
    said: list[str] = []
    steps = ladder._steps(recipe, (), None, said.append)
    return [f"{step.name}:{step.recipe.objective.kind}" for step in steps]


@pytest.mark.parametrize(
    ("leaf", "rungs"),
    [
        ("bert_tiny", ["bert_tiny:sentence_order"]),
        ("roberta_tiny", ["bert_tiny:mlm", "roberta_tiny:mlm"]),
        ("distilbert_tiny", ["bert_tiny:mlm", "roberta_tiny:mlm", "distilbert_tiny:distill"]),
        ("lstm_lm_tiny", ["base_tiny:clm", "rnn_lm_tiny:clm", "lstm_lm_tiny:clm"]),
        ("luong_tiny", ["seq2seq_tiny:seq2seq", "luong_tiny:seq2seq"]),
        ("t5_tiny", ["transformer_2017_tiny:seq2seq", "t5_tiny:seq2seq"]),
        ("electra_tiny", ["electra_tiny:rtd"]),
    ],
)
def test_a_ladder_begins_where_the_task_of_its_last_recipe_does(
    leaf: str, rungs: list[str]
) -> None:
    assert names(leaf) == rungs


def test_rungs_of_one_text_keep_their_own_rows_and_compare_in_bits_per_byte() -> None:
    steps = ladder._steps("lstm_lm_tiny", (), None, lambda text: None)
    assert [step.recipe.data.batch.kind for step in steps] == ["rows", "streams", "streams"]
    assert ladder.metric_of([step.recipe for step in steps]) == ladder.BITS_PER_BYTE
    other = ladder._steps("t5_tiny", (), None, lambda text: None)
    assert ladder.metric_of([step.recipe for step in other]).metric == "val_loss"
    assert {step.recipe.data.batch.kind for step in other} == {"span_corruption"}


def test_a_list_is_climbed_as_it_is_given_or_refused() -> None:
    given = ["rnn_lm_tiny", "wavenet_tiny", "gpt2_tiny"]
    assert [name.split(":")[0] for name in names(given)] == given
    with pytest.raises(RecipeError, match=r"bert_tiny can't be compared with gpt2_tiny"):
        names(["bert_tiny", "gpt2_tiny"])
    with pytest.raises(RecipeError, match=r"two are 'gpt2_tiny'"):
        names(["gpt2_tiny", str(SHIPPED / "gpt2_tiny.toml")])


def test_seeds_give_means_intervals_and_a_sentence(mlxt: Mlxt, home: Path) -> None:
    (home / "wide.toml").write_text('extends = "tiny.toml"\nmodel.block.ffn.hidden_dim = 32\n')
    outcome = mlxt("ladder", "wide", "--seeds", "1,2")
    assert outcome.code == 0, outcome.err
    folder = home / "runs" / "ladder-wide"
    assert {path.name for path in folder.glob("*seed*")} == {
        f"{name}-seed{seed}" for name in ("tiny", "wide") for seed in (1, 2)
    }
    below, above = json.loads((folder / "ladder.json").read_text())
    bits = {
        name: [
            [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        ][0][-1]["val_bpb"]
        for name in ("tiny-seed1", "tiny-seed2", "wide-seed1", "wide-seed2")
    }
    assert below["value"] == pytest.approx((bits["tiny-seed1"] + bits["tiny-seed2"]) / 2)
    differences = [bits[f"wide-seed{seed}"] - bits[f"tiny-seed{seed}"] for seed in (1, 2)]
    assert above["delta"] == pytest.approx(sum(differences) / 2)
    assert above["seeds"] == [1, 2]
    assert "wide against tiny:" in outcome.out
    assert "±" in (folder / "ladder.md").read_text()
    bad = mlxt("ladder", "wide", "--seeds", "1,x")
    assert bad.code == 2
    assert "'1,x' is no list of seeds" in bad.err


def rung(**changes: object) -> Rung:
    fields = {
        "recipe": "a", "parameters": 1, "active_parameters": 1, "tokens": 1, "val_loss": 1.0,
        "val_bpb": 1.0, "delta_bpb": None, "tokens_per_s": 1.0, "peak_gib": 1.0,
        "decode_tokens_per_s": None, "cache_bytes_per_token": None, "seconds": 1.0, "value": 1.0,
    }  # fmt: skip
    return Rung(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("delta", "lower", "words"),
    [
        (-0.3, True, "b against a: -0.300 ± 0.100 bits/byte, better."),
        (-0.3, False, "worse."),
        (0.05, True, "3 seeds can't tell the two apart."),
    ],
)
def test_a_difference_is_judged_by_its_interval(delta: float, lower: bool, words: str) -> None:
    above = rung(
        recipe="b", delta=delta, delta_error=0.1, seeds=(1, 2, 3), lower_is_better=lower
    )  # fmt: skip
    (sentence,) = verdicts([rung(), above])
    assert sentence.endswith(words)


def test_tables_of_ladders_before_metrics_had_names_are_read() -> None:
    old = {
        "recipe": "a", "parameters": 1, "active_parameters": 1, "tokens": 1, "val_loss": 1.0,
        "val_bpb": 2.0, "delta_bpb": -0.5, "tokens_per_s": 1.0, "peak_gib": 1.0,
        "decode_tokens_per_s": 3.0, "cache_bytes_per_token": 4.0, "seconds": 1.0,
    }  # fmt: skip
    (found,) = read(json.dumps([old]))
    assert (found.metric, found.value, found.delta) == ("val_bpb", 2.0, -0.5)
    assert "| -0.500 |" in markdown([found])


def test_a_model_that_continues_no_text_has_no_decoding_speed() -> None:
    assert markdown([rung()]).splitlines()[-1].endswith("| - | - |")


def test_a_ladder_stays_in_its_folder_and_writes_over_nothing(mlxt: Mlxt, home: Path) -> None:
    for name in ("../outside", "a/b"):
        done = mlxt("ladder", "tiny.toml", "--name", name)
        assert done.code == 1
        assert "can't name a ladder" in done.err
    notes = home / "runs" / "notes" / "ladder.md"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    assert "which no ladder wrote" in mlxt("ladder", "tiny.toml", "--name", "notes").err
    assert notes.read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "function", "stopped", "command"),
    [
        (ladder, "climb", ladder.Ladder(Path("x"), [], False), ("ladder", "tiny.toml")),
        (sweep, "sweep", (Path("x"), None), ("sweep", "tiny.toml", "--over", "train.seed=1,2")),
        (
            scale,
            "scale",
            (Path("x"), None),
            ("scale", "tiny.toml", "--widths", "8,16", "--steps", "1,2"),
        ),
    ],
)
def test_runs_that_a_signal_stops_are_no_success(
    mlxt: Mlxt, monkeypatch: pytest.MonkeyPatch, module: Any, function: str, stopped: Any,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr(module, function, lambda *_, **__: stopped)
    assert mlxt(*command).code == 130


def test_every_rung_takes_the_best_of_the_same_values(mlxt: Mlxt, home: Path) -> None:
    (home / "wide.toml").write_text('extends = "tiny.toml"\nmodel.block.ffn.hidden_dim = 32\n')
    verb = ["ladder", "wide", "--tune", "optim.learning_rate=1e-6,1e-2", "--seeds", "1,2"]
    outcome = mlxt(*verb)
    assert outcome.code == 0, outcome.err
    folder = home / "runs" / "ladder-wide"
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    for name in ("tiny", "wide"):
        assert f"{name}-learning_rate-1e-6-seed1" in names
        assert f"{name}-learning_rate-1e-6-seed2" not in names  # tuned with the first seed alone
        assert f"{name}-learning_rate-1e-2-seed2" in names
    below, above = json.loads((folder / "ladder.json").read_text())
    assert (below["recipe"], above["recipe"]) == ("tiny", "wide")
    for found in (below, above):
        assert found["tuned"] == "1e-2"
        assert found["tried"]["1e-2"] < found["tried"]["1e-6"]
        assert found["seeds"] == [1, 2]
    assert "tiny: optim.learning_rate=1e-2 is the best" in outcome.out
    assert "1e-2 is at the end of the list" in outcome.out
    assert "| tuned |" in (folder / "ladder.md").read_text()
    assert read((folder / "ladder.json").read_text())[0].tuned == "1e-2"


def test_a_value_at_which_training_fails_is_left_out(home: Path) -> None:
    step = ladder.Step("tiny", load_recipe("tiny"))
    said: list[str] = []

    def run(step: ladder.Step) -> RunFolder | None:
        if step.recipe.optim.learning_rate > 1:  # type: ignore[attr-defined]
            raise RunError("The weights are not finite.")
        folder = home / step.name
        folder.mkdir()
        (folder / "log.jsonl").write_text('{"step": 1, "tokens": 8, "val_loss": 2.0}\n')
        return RunFolder(folder)

    best = Best("val_loss", "min")
    axis = parse_tuning("optim.learning_rate=0.1,10")
    found = tuned(step, axis, (), best, run, said.append)
    assert found is not None
    assert (found.value, found.tried) == ("0.1", {"0.1": 2.0})
    assert "optim.learning_rate=10 is left out: The weights are not finite." in said[0]
    with pytest.raises(RunError, match=r"could be trained at no value"):
        tuned(step, parse_tuning("optim.learning_rate=5,10"), (), best, run, said.append)
    assert tuned(step, axis, (), best, lambda step: None, said.append) is None


def test_tuned_values_are_checked_before_anything_is_trained(mlxt: Mlxt, home: Path) -> None:
    outcome = mlxt("ladder", "tiny", "--tune", "optim.learning_rat=1e-3")
    assert outcome.code == 1
    assert "--tune optim.learning_rat=1e-3 in tiny: " in outcome.err
    assert "learning_rate" in outcome.err
    assert "write it as KEY=VALUE,VALUE" in mlxt("ladder", "tiny", "--tune", "x").err
    assert not (home / "runs").exists()
