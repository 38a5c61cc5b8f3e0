"""Rows of prompts with completions, and of preferences."""

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.completions import answered
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.arithmetic import Arithmetic
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.words import WordTokenizer


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))

    def build(kind):
        return Data.model_validate(
            {
                "corpus": "arithmetic",
                "settings": {"n_examples": 60},
                "tokenizer": {"kind": "byte"},
                "batch": {"kind": kind},
            }
        )

    return build


def test_arithmetic_is_right_and_its_rejected_answers_are_wrong():
    for row in Arithmetic({"n_examples": 50, "operators": "+-*"}).records:
        assert int(row["completion"]) == eval(row["prompt"][:-1])
        assert row["chosen"] == row["answer"] == row["completion"] != row["rejected"]
    with pytest.raises(ValueError, match=r"data\.settings\.operators"):
        Arithmetic({"operators": "/"})


def test_the_completion_and_the_end_of_text_count_and_the_prompt_does_not(data):
    table = data("completions")
    prepared = prepare(table)
    tokenizer = prepared.tokenizer
    batch = table.batch.train(prepared, BatchSetting(seq_len=16, seed=0)).batch(np.arange(8))
    for tokens, weights in zip(batch["tokens"], batch["weights"], strict=True):
        counted = tokens[1:][weights > 0]
        text = tokenizer.decode(tokens)
        assert counted[-1] == tokenizer.eos_id
        assert text.startswith(tokenizer.decode(tokens[: len(text) - len(counted) + 1]))
        prompt, _, answer = text.partition("=")
        assert tokenizer.decode(counted) == answer[: len(counted) - 1]
        assert eval(prompt) == int(tokenizer.decode(counted))


def test_a_token_that_straddles_the_border_belongs_to_the_completion():
    tokenizer = WordTokenizer(["<unk>", "a", "bc", "d"])
    assert answered(tokenizer, "a b", "c d") == ([1, 2, 3], [0, 1, 1])
    assert answered(ByteTokenizer(), "é", "x")[1] == [0, 0, 1, 1]


def test_both_completions_of_a_preference_share_their_prompt(data):
    table = data("preferences")
    prepared = prepare(table)
    batch = table.batch.held_out(prepared, "valid", BatchSetting(seq_len=16, seed=0))
    rows = batch.batch(np.arange(2))
    for i in range(2):
        sides = {}
        for side in ("chosen", "rejected"):
            tokens, counted = rows[side][i], rows[f"{side}_counted"][i]
            sides[side] = prepared.tokenizer.decode(tokens[1:][counted > 0])
            prompt = prepared.tokenizer.decode(tokens[: int(np.argmax(counted)) + 1])
            assert prompt.endswith("=")
        assert eval(prompt[:-1]) == int(sides["chosen"]) != int(sides["rejected"])


def test_a_missing_field_is_named(data, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n')
    table = data("preferences").model_copy(
        update={"corpus": None, "settings": {}, "path": str(tmp_path / "rows.jsonl")}
    )
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no field 'rejected'"):
        prepare(table)
