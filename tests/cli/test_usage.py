"""Unknown verbs, options and keys name what the user meant, in the words of other libraries too."""

import pytest

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
        ("train tiny --wd 0.1", "Did you mean --set optim.weight_decay=VALUE?"),
        ("finetune a tiny --max-seq-length 8", "Did you mean --set train.seq_len=VALUE?"),
        ("train tiny --steps-per-eval 8", "Did you mean --set eval.every=VALUE?"),
    ],
)
def test_an_unknown_word_of_a_command_names_the_nearest(mlxt: Mlxt, line: str, hint: str) -> None:
    outcome = mlxt(*line.split())
    assert outcome.code == 2
    shown = " ".join(outcome.err.replace("│", " ").split())
    assert hint in shown
    assert shown.count("Did you mean") == 1


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("optim.lr", "'learning_rate'"),
        ("train.lr", "'optim.learning_rate'"),
        ("lr", "'optim.learning_rate'"),
        ("train.save_every", "'checkpoint.every'"),
        ("model.block.mixer.num_heads", "'n_heads'"),
    ],
)
def test_a_key_of_another_library_or_table_names_its_place(mlxt: Mlxt, key: str, hint: str) -> None:
    outcome = mlxt("show", "tiny", "--set", f"{key}=3")
    assert outcome.code == 1
    assert f"Did you mean {hint}?" in outcome.err
