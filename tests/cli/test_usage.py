"""Unknown verbs, options and keys name what the user meant, in the words of other libraries too."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer

from mlx_transformers.assembly.recipe import Recipe
from mlx_transformers.cli.main import app
from mlx_transformers.cli.usage import ADAPTERS
from mlx_transformers.core.errors import DataError
from mlx_transformers.core.names import SYNONYMS
from mlx_transformers.data.batches.chat import chat_template
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.recipe.keys import key_paths
from mlx_transformers.recipe.slot import KINDS

from .conftest import Mlxt


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("gen", "Did you mean 'generate'?"),
        ("lora", "Did you mean 'finetune'?"),
        ("evaluate", "Did you mean 'eval'?"),
        ("data prep", "Did you mean 'prepare'?"),
        ("runs delete", "Did you mean 'rm'?"),
        ("train tiny --lerning-rate 1", "Did you mean --learning-rate?"),
        ("train tiny --batch_size 1", "Did you mean --batch-size?"),
        ("eval --model tiny", "Give RUN without an option, as the argument."),
        ("train tiny --wd 0.1", "Did you mean --set optim.weight_decay=VALUE?"),
        ("finetune a tiny --max-seq-length 8", "Did you mean --set train.seq_len=VALUE?"),
        ("train tiny --steps-per-eval 8", "Did you mean --set eval.every=VALUE?"),
        ("finetune a b --lora", "Did you mean --set adapt.kind=lora?"),
        ("train tiny --lora-rank 4", "Did you mean --set adapt.kind=lora --set adapt.rank=VALUE?"),
        ("quantize --model tiny", "Give SRC without an option, as the argument."),
        ("train tiny --depth 4", "Did you mean --set model.n_layers=VALUE?"),
        ("train tiny --dropout 0.1", "Did you mean --set model.embed.dropout=VALUE?"),
        ("generate tiny --verbose", "No such option: --verbose. ╰"),
        ("generate tiny --stream", "No such option: --stream. ╰"),
        ("train tiny --epochs 3", "No such option: --epochs. Give --steps: an epoch has"),
        ("eval tiny --epochs 3", "No such option: --epochs. ╰"),
        ("runs list", "No such command 'list'. Known: rm, prune."),
    ],
)
def test_an_unknown_word_of_a_command_names_the_nearest(mlxt: Mlxt, line: str, hint: str) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 2
    shown = " ".join(outcome.err.replace("│", " ").split())
    assert hint in shown
    assert shown.count("Did you mean") == hint.count("Did you mean")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train tiny --steps abc", "'--iters': give a whole number."),
        ("train tiny --lr fast", "give a number."),
        ("eval tiny --batches 0", "'--batches': give at least 1."),
        ("profile tiny twice", "Nothing is expected after the arguments: twice."),
        ("generate a -p the king", "arguments: king. Put --prompt before it, and quotes around"),
        ("train tiny text.txt", "arguments: text.txt. Put --data before it"),
        ("safety", "Missing option '--measure'. What to measure. One of refusals, crows_pairs"),
        ("think", "Missing option '--questions'. The questions, a .jsonl file"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_plain_words(
    mlxt: Mlxt, line: str, words: str
) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 2
    assert words in " ".join(outcome.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("optim.lr", "'learning_rate'"),
        ("train.lr", "'optim.learning_rate'"),
        ("lr", "'optim.learning_rate'"),
        ("train.save_every", "'checkpoint.every'"),
        ("model.block.mixer.num_heads", "'n_heads'"),
        ("model.n_heads", "'model.block.mixer.n_heads'"),  # and not 'head', which is similar
        ("train.learning_rate", "'optim.learning_rate'"),
        ("train.depth", "'model.n_layers'"),  # and not [model.depth], a table
        ("model.layers", "'n_layers'"),  # and not quantize.layers, which tiny has no table for
        ("lora", "'adapt.kind=lora'"),
    ],
)
def test_a_key_of_another_library_or_table_names_its_place(mlxt: Mlxt, key: str, hint: str) -> None:
    outcome = mlxt("show", "tiny", "--set", f"{key}=3")
    assert outcome.code == 1
    assert f"Did you mean {hint}?" in outcome.err


def test_a_value_for_a_table_names_the_key_that_is_meant(mlxt: Mlxt) -> None:
    assert "Did you mean 'model.n_layers'?" in mlxt("show", "tiny", "--set", "model.depth=4").err


def commands_under(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands_under(below)


def test_each_word_of_another_library_stands_for_a_name_that_exists() -> None:
    paths = key_paths(Recipe)
    known = {*paths, *chain.from_iterable(paths.values()), *chain.from_iterable(KINDS.values())}
    for command in commands_under(typer.main.get_command(app)):
        flags = chain.from_iterable(param.opts for param in command.params)
        known |= {command.name, *(flag.lstrip("-").replace("-", "_") for flag in flags)}
        known |= {str(param.metavar).lower() for param in command.params}
    meant = {name for names in SYNONYMS.values() for name in names}
    assert meant - known == set()
    assert set(ADAPTERS) <= KINDS["adapt"].keys()


def verbs_on_a_run() -> list[str]:
    """The verbs whose first argument is a run, and that need no option."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        name
        for name, command in commands.items()
        if (arguments := [p for p in command.params if p.param_type_name == "argument"])
        and "RUN" in str(arguments[0].metavar)
        and not any(p.required for p in command.params if p.param_type_name == "option")
    ]


@pytest.mark.parametrize("verb", verbs_on_a_run())
def test_a_run_that_is_not_there_is_said_before_anything_is_asked(mlxt: Mlxt, verb: str) -> None:
    outcome = mlxt(verb, "no such run", *(["tiny"] if verb == "finetune" else []))
    assert outcome.code == 1, outcome.err
    assert "no such run" in outcome.err


def test_a_run_in_the_place_of_a_recipe_or_a_model_is_said_to_be_one(
    mlxt: Mlxt, home: Path
) -> None:
    run = home / "runs" / "a"
    (run / "checkpoints" / "step-000003").mkdir(parents=True)
    (run / "recipe.toml").write_text('extends = "../../tiny.toml"')
    for name in ("a", "runs/a"):
        expected = f"'{name}' is a run, not a recipe. Its recipe is runs/a/recipe.toml."
        assert expected in mlxt("show", name).err
    assert "is a run already" in mlxt("import", "runs/a").err
    for name in ("a", "runs/a"):
        lost = mlxt("generate", f"{name}/checkpoints/step-9", "--prompt", "a").err
        assert "runs/a has no checkpoint 'step-9'. It has: step-000003." in lost


def test_of_very_many_names_the_nearest_are_listed(mlxt: Mlxt) -> None:
    outcome = mlxt("recipes", "mistrel_tiny")
    assert "Did you mean 'mistral_tiny'? The nearest of" in outcome.err
    assert len(outcome.err) < 300


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("plan tiny --batch-size 0", "train.batch_size"),
        ("ladder tiny --steps 0", "train.steps"),
        ("sweep tiny --over optim.eps=1e-8,1e-7 --steps 0", "train.steps"),
    ],
)
def test_verbs_that_train_take_the_short_options_of_train(mlxt: Mlxt, line: str, key: str) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 1
    assert f"{key} must be" in outcome.err


@pytest.mark.parametrize(
    ("line", "key", "option"),
    [
        ("scale tiny --widths 8,16 --steps 2 --set train.steps=3", "train.steps", "--steps"),
        ("scale tiny --widths 8,16 --steps 2 --set model.dim=8", "model.dim", "--widths"),
        ("sweep tiny --over optim.eps=1e-8,1e-7 --set optim.eps=1e-6", "optim.eps", "--over"),
        ("ladder tiny --tune train.steps=2,3 --steps 4", "train.steps", "--tune"),
        (
            "profile tiny --sweep train.seq_len=4,8 --set train.seq_len=8",
            "train.seq_len",
            "--sweep",
        ),
        ("train tiny --seeds 1,2 --seed 3", "train.seed", "--seeds"),
    ],
)
def test_a_key_that_an_option_sets_for_each_run_is_not_set_for_all(
    mlxt: Mlxt, line: str, key: str, option: str
) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 1
    assert f"{option} sets {key} for each run" in outcome.err


def test_a_width_that_no_model_has_is_named(mlxt: Mlxt) -> None:
    outcome = mlxt("scale", "tiny", "--widths", "25,16,32", "--steps", "2,3")
    assert outcome.err.startswith("error: model.dim=25, train.steps=2: ")


def test_a_key_without_an_effect_is_named(mlxt: Mlxt) -> None:
    sets = ["--set", "train.steps=3", "--set", "log.every=1", "--set", "data.shuffle=false"]
    for verb, unread in (("data prepare", ["train.steps", "log.every"]), ("plan", ["log.every"])):
        err = mlxt(*verb.split(), "tiny", *sets).err
        assert [line.split()[0] for line in err.splitlines() if "no effect" in line] == unread


def test_a_folder_or_a_template_that_is_none_says_what_is_needed(mlxt: Mlxt) -> None:
    assert "has no config.json: give the folder of a published model" in mlxt("import", ".").err
    with pytest.raises(DataError, match=r"'nope' can't be read: No such file.*It is a Jinja file"):
        chat_template("nope", ByteTokenizer())


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("chat --web --system Answer.", "--system doesn't go with --web"),
        ("chat --port 9000", "--port doesn't go with a conversation in the terminal"),
        ("prune a --heads 1 --method wanda", "--method wanda chooses single weights"),
    ],
)
def test_an_option_without_an_effect_is_refused(mlxt: Mlxt, line: str, option: str) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 1
    assert option in " ".join(outcome.err.split())
