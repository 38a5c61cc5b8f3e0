"""Runs on several texts: exact resume, the loss on each text, replay in fine-tuning."""

import pytest

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import DataError, RunError
from mlx_transformers.verbs.finetune import finetune

from . import tiny

SETS = (
    'data.tokenizer={kind="byte"}',
    'data.mixture=[{name="b", path="b.txt", weight=0.25, end_weight=0.5, steps=4}]',
    "checkpoint.every=2",
    "optim.schedule={kind='constant'}",
    "eval.every=2",
)


def test_a_mixed_text_that_has_nothing_to_evaluate_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "b.txt").write_text("0123456789" * 200)
    (tmp_path / "held.txt").write_text("the king")
    sets = (*SETS, "data.valid_path=held.txt", "data.valid_fraction=0")
    with pytest.raises(DataError, match="valid"):
        tiny.run(tmp_path, *sets, name="a")
    assert not (tmp_path / "runs" / "a").exists()


def test_a_mixture_resumes_exactly_and_its_texts_are_counted_and_evaluated(tmp_path):
    (tmp_path / "b.txt").write_text("0123456789" * 200)
    whole = tiny.run(tmp_path, *SETS, name="whole")
    tiny.run(tmp_path, *SETS, "train.steps=4", name="a")
    ended = tiny.run(tmp_path, *SETS, name="a", resume="auto")
    files = [(r.folder.newest() / "model.safetensors").read_bytes() for r in (whole, ended)]
    assert files[0] == files[1]
    for key in ("tokens/b", "tokens/data", "val_loss/b"):
        assert tiny.records(ended, key) == tiny.records(whole, key)
    (_, main), (_, other) = (
        tiny.records(whole, "tokens/data")[-1],
        tiny.records(whole, "tokens/b")[-1],
    )
    assert main + other == whole.progress.tokens
    [(_, first), *_, (_, last)] = tiny.records(whole, "val_loss/b")
    assert last < first

    found = finetune(
        whole.folder.path,
        tmp_path / "tiny.toml",
        set=("train.steps=2", 'data.path="b.txt"'),
        replay=0.5,
        root=tmp_path / "runs",
        say=lambda text: None,
    )
    assert load_recipe(found.folder.recipe).data.mixture[0].path == str(tmp_path / "text.txt")
    assert abs(tiny.records(found, "tokens/old")[-1][1] - 4 * 16) <= 16
    for share in (0.0, 1.0):
        with pytest.raises(RunError, match="between 0 and 1"):
            finetune(whole.folder.path, tmp_path / "tiny.toml", replay=share)
