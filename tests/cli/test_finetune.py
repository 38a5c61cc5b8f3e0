"""`mlxt finetune`: a run that begins with the weights and the tokenizer of another."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from convert.published import write

from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.runs import checkpoint
from mlx_transformers.runs.tensors import named_leaves
from mlx_transformers.verbs import finetune

from .conftest import Mlxt
from .test_bad_input import refused

STILL = ["--set", "optim.learning_rate=1e-30", "--set", "train.steps=1"]
"""A step that moves no weight."""

ENCODER = """
[model]
kind = "encoder"
dim = 16
n_layers = 1
max_seq_len = 16
embed = { kind = "token" }
position = { kind = "rope" }
norm = { kind = "rms_norm" }
init = { kind = "normal", std = 0.1 }

[model.block]
placement = "pre"
norm = { kind = "rms_norm" }
mixer = { kind = "attention", n_heads = 2 }
ffn = { kind = "glu", hidden_dim = 24, activation = "silu" }

[train]
steps = 3
batch_size = 2
seq_len = 16

[optim]
kind = "adamw"
learning_rate = 1e-2

[eval]
every = 100

[checkpoint]
every = 100
"""
MASKED = """
model.head = { kind = "mlm", tied = true, activation = "gelu", norm = { kind = "rms_norm" } }
objective.kind = "mlm"
[data]
path = "text.txt"
tokenizer = { kind = "byte" }
batch = { kind = "mlm" }
"""
CLASSES = """
model.pool = { kind = "classifier", n_classes = 2 }
objective.kind = "classify"
[data]
path = "records.jsonl"
tokenizer = { kind = "char" }
batch = { kind = "labeled" }
"""


def weights(run: Path) -> dict[str, mx.array]:
    saved = checkpoint.newest(run / "checkpoints")
    assert saved is not None
    return dict(named_leaves(checkpoint.load(saved, only=["model"])[0]["model"]))


@pytest.fixture
def pretrained(mlxt: Mlxt, home: Path) -> Path:
    """A masked language model of bytes, and a recipe `classes` that classifies."""
    (home / "encoder.toml").write_text(ENCODER)
    for name, rest in (("masked", MASKED), ("classes", CLASSES)):
        (home / f"{name}.toml").write_text('extends = "encoder.toml"\n' + rest)
    rows = [{"text": f"{word} {i}", "label": word} for i in range(20) for word in ("up", "down")]
    (home / "records.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert mlxt("train", "masked").code == 0
    return home / "runs" / "masked"


def test_a_classifier_begins_with_the_stack_and_the_tokens_of_a_masked_model(
    mlxt: Mlxt, home: Path, pretrained: Path
) -> None:
    before = weights(pretrained)
    outcome = mlxt("finetune", "masked", "classes", *STILL)
    assert outcome.code == 0
    assert "arrays come from runs/masked/checkpoints/step-000003" in outcome.out
    assert "Newly initialised: pool.map.weight" in outcome.out
    assert "Unused: head." in outcome.out
    after = weights(home / "runs" / "classes")
    shared = set(before) & set(after)
    assert "embed.table.weight" in shared
    for name in shared:
        assert mx.array_equal(before[name], after[name]), name
    theirs = load_tokenizer(pretrained / "tokenizer").fingerprint()
    assert load_tokenizer(home / "runs" / "classes" / "tokenizer").fingerprint() == theirs
    assert "mlxt eval runs/classes" in outcome.out
    assert mlxt("eval", "classes").code == 0


def test_a_run_that_goes_on_reads_no_source_and_ends_as_if_it_had_not_stopped(
    mlxt: Mlxt, home: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verb = ["finetune", "masked", "classes", "--steps", "4"]
    assert mlxt(*verb, "--name", "whole").code == 0
    short = [*verb[:3], "--set", "train.steps=2", "--name", "halved"]
    assert mlxt(*short).code == 0

    def fail(*arguments: object) -> None:
        raise AssertionError("the source was read again")

    monkeypatch.setattr(finetune, "_of_run", fail)
    assert mlxt(*verb, "--name", "halved", "--resume", "auto").code == 0
    whole, halved = weights(home / "runs" / "whole"), weights(home / "runs" / "halved")
    assert all(mx.array_equal(whole[name], halved[name]) for name in whole)
    plain = ["train", "runs/halved/recipe.toml", "--resume", "runs/halved", "--steps", "5"]
    assert mlxt(*plain).code == 0


def test_a_source_of_other_sizes_is_refused_and_leaves_no_run(
    mlxt: Mlxt, home: Path, pretrained: Path
) -> None:
    wider = ["finetune", "masked", "classes", "--set", "model.dim=8", "--set"]
    outcome = mlxt(*wider, "model.block.ffn.hidden_dim=8")
    refused(outcome, "No weight of", "embed.table.weight [260, 8]")
    assert not (home / "runs" / "classes").exists()
    refused(mlxt("finetune", "maskd", "classes"), "no run 'maskd'", "Did you mean 'masked'?")
    refused(mlxt("finetune", "masked", "classes", "--name", "masked"), "exists already")


def test_rows_of_a_vocabulary_are_taken_as_far_as_both_go() -> None:
    theirs = {"table": mx.ones((5, 2)), "head": mx.ones((5, 2)), "gone": mx.ones(3)}
    ours = {"table": mx.zeros((7, 2)), "head": mx.zeros((3, 2)), "own": mx.zeros(3)}
    taken = finetune.take(theirs, ours, (5, 7))
    assert taken.rows == ["table"]
    assert taken.new == ["head", "own"]
    assert taken.unused == ["head", "gone"]
    assert taken.weights["table"].tolist() == [[1.0, 1.0]] * 5 + [[0.0, 0.0]] * 2
    assert finetune.take(ours, theirs, (7, 5)).weights["table"].tolist() == [[0.0, 0.0]] * 5


def test_a_published_folder_is_a_source_and_an_average_begins_at_its_weights(
    mlxt: Mlxt, home: Path
) -> None:
    write(home / "gpt2", "gpt2")
    assert mlxt("import", "gpt2").code == 0
    (home / "own.toml").write_text(
        'extends = "runs/gpt2/recipe.toml"\ndata.path = "text.txt"\n'
        "train.seq_len = 16\ntrain.ema = 0.9\n"
    )
    outcome = mlxt("finetune", "gpt2", "own", *STILL)
    assert outcome.code == 0
    assert "Unused" not in outcome.out
    run = home / "runs" / "own"
    before, after = weights(home / "runs" / "gpt2"), weights(run)
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    average = checkpoint.load(run / "checkpoints" / "step-000001", only=["ema"])[0]["ema"]
    for name, array in named_leaves(average["average"]):
        assert mx.allclose(array, before[name], atol=1e-6), name


CHANGES = {
    "model.block.mixer.n_heads=4": "block.mixer.n_heads = 2 there, 4 here",
    "model.position.theta=500": "position.theta = 10000.0 there, 500.0 here",
    "model.block.norm.eps=0.01": "norm.eps",
    "model.block.ffn.activation=gelu": "ffn.activation = 'silu' there, 'gelu' here",
    "model.block.mixer.window=4": "window = none there, 4 here",
    "model.embed.scale=sqrt_dim": "embed.scale",
}


def test_weights_that_would_mean_something_else_are_refused_key_by_key(
    mlxt: Mlxt, home: Path, pretrained: Path
) -> None:
    verb = ["finetune", "masked", "classes", *STILL]
    for change, said in CHANGES.items():
        refused(mlxt(*verb, "--set", change), said, "--accept-changes")
    assert not (home / "runs" / "classes").exists()
    outcome = mlxt(*verb, "--set", "model.position.theta=500", "--accept-changes")
    assert outcome.code == 0
    assert CHANGES["model.position.theta=500"] in outcome.out
