"""Rows of prompts with completions, and of preferences."""

import json

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError, Notice
from mlx_transformers.data.batches.written import answered
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.arithmetic import Arithmetic
from mlx_transformers.data.corpora.manners import Manners
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
    wrong = [row for row in Arithmetic({"n_examples": 200}).records if not row["label"]]
    above = sum(int(row["attempt"]) > int(row["answer"]) for row in wrong)
    assert 0.3 < above / len(wrong) < 0.7
    assert all(row["attempt"] == row["rejected"] for row in wrong)
    far = Arithmetic({"n_examples": 50, "far_share": 1, "max_number": 9}).records
    assert all(0 < abs(int(row["rejected"]) - int(row["answer"])) <= 18 for row in far)
    with pytest.raises(ValueError, match=r"data\.settings\.operators"):
        Arithmetic({"operators": "/"})


def test_what_manners_criticises_its_revisions_leave_out():
    rows = [row["prompt"] + "|" + row["completion"] for row in Manners({"n_examples": 400}).records]
    revised = [row.split("|") for row in rows if row.count("=") == 2]
    assert len(revised) > 50
    for prompt, answer in revised:
        assert ("fool" in answer) == ("fool" in prompt and "It is rude" not in prompt)
        assert ("well" in answer) == ("well" in prompt and "It is long" not in prompt)
    judged = [row for row in rows if "polite. Is it so? " in row]
    assert len(judged) > 20
    assert all(row.endswith("|No") == ("fool" in row) for row in judged)
    answers = Manners({"n_examples": 50, "fault_share": 0, "task": "answer"}).records
    assert all(row["completion"] == str(eval(row["prompt"][:-1])) for row in answers)


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


def rows_of(kind, tmp_path, text, **options):
    """The first rows of a file of records, in order."""
    path = tmp_path / f"{kind}.jsonl"
    path.write_text(text)
    table = {"path": str(path), "tokenizer": {"kind": "byte"}, "valid_fraction": 0.0}
    table = Data.model_validate(table | {"batch": {"kind": kind, **options}})
    setting = BatchSetting(seq_len=16, seed=0, shuffle=False)
    return table.batch.train(prepare(table), setting).batch(np.arange(2))


def test_an_unpaired_row_has_its_label_and_the_completion_of_another_row(data, tmp_path):
    text = (
        '{"prompt": "1+1=", "completion": "2", "label": true}\n'
        '{"prompt": "2+2=", "completion": "7", "label": "bad"}\n'
    )
    rows = rows_of("unpaired", tmp_path, text)
    assert rows["label"].tolist() == [1, 0]
    decode = ByteTokenizer().decode
    for i, prompt in enumerate(("1+1=", "2+2=")):
        own, other = (rows[name][i] for name in ("tokens", "mismatched"))
        assert decode(own).startswith(prompt)
        assert decode(other).startswith(prompt)
        counted = other[1:][rows["mismatched_counted"][i] > 0]
        assert decode(counted)[0] in "27"
    with pytest.raises(DataError, match=r"unpaired\.jsonl:1.*'label' is 'so so'"):
        rows_of("unpaired", tmp_path, text.replace("true", '"so so"'))


def test_a_preference_may_have_a_margin(data, tmp_path):
    text = '{"prompt": "a", "chosen": "b", "rejected": "c", "gap": 1.5}\n' * 2
    assert rows_of("preferences", tmp_path, text)["margin"].tolist() == [0, 0]
    found = rows_of("preferences", tmp_path, text, margin_key="gap")
    assert found["margin"].tolist() == [1.5, 1.5]
    for bad in ("null", "1e39"):
        with pytest.raises(DataError, match="a margin is a finite number"):
            rows_of("preferences", tmp_path, text.replace("1.5", bad), margin_key="gap")


def test_a_missing_field_is_named(data, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n')
    table = data("preferences").model_copy(
        update={"corpus": None, "settings": {}, "path": str(tmp_path / "rows.jsonl")}
    )
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no field 'rejected'"):
        prepare(table)


def test_rows_that_lose_a_whole_completion_are_counted_or_refused(data, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "a" * n, "chosen": "yes", "rejected": "no", "completion": "yes", "label": True}
        for n in (3, 5, 30, 40, 50) * 12
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    for kind in ("preferences", "completions", "unpaired"):
        given = {
            "path": str(file),
            "tokenizer": {"kind": "byte"},
            "batch": {"kind": kind},
        }
        table = Data.model_validate(given)
        prepared = prepare(table)
        with pytest.warns(Notice, match=r"lose a whole completion.*= 53"):
            table.batch.train(prepared, BatchSetting(seq_len=8, seed=0))
        with pytest.raises(DataError, match=r"train\.seq_len = 2 tokens"):
            table.batch.train(prepared, BatchSetting(seq_len=2, seed=0))
