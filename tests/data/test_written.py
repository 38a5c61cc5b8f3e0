"""Rows of prompts and completions as lists of messages, and pairs that begin with their prompt."""

import json

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError, Notice
from mlx_transformers.data.batches.chat import Chat
from mlx_transformers.data.batches.completions import Completions
from mlx_transformers.data.batches.preferences import Preferences
from mlx_transformers.data.batches.prompts import Prompts, decoded
from mlx_transformers.data.batches.unpaired import Unpaired
from mlx_transformers.data.batches.written import answered
from mlx_transformers.data.chat_template import CHATML_TOOLS, ChatTemplate
from mlx_transformers.data.config import Data
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.byte import ByteTokenizer

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("2", "three"))
BYTES = ByteTokenizer()
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def encoded(kind, row):
    """The fields of a row that the kind accepts."""
    return kind.encode(kind.accept(Piece("", where="x:3", record=row)).record, BYTES, {})


def parts(tokens, counted):
    """The text of a prompt and that of its completion."""
    split = counted.index(1)
    assert counted == [0] * split + [1] * (len(tokens) - split)
    return bytes(tokens[:split]).decode(), bytes(tokens[split:]).decode()


PROMPT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
PROMPT += "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"chosen": ASKED + GOOD, "rejected": ASKED + BAD},
        {"prompt": "1+1?", "chosen": ASKED + GOOD, "rejected": ASKED + BAD},
    ],
    ids=["apart", "in both", "in both and apart"],
)
def test_messages_are_written_by_the_template_with_its_ends(row):
    fields = encoded(Preferences(template="chatml"), row)
    assert parts(*fields[:2]) == (PROMPT, "2<|im_end|>\n")
    assert parts(*fields[2:]) == (PROMPT, "three<|im_end|>\n")


def test_every_kind_of_completion_reads_messages():
    rows = ({"prompt": ASKED, "completion": GOOD}, {"completion": ASKED + GOOD})
    for row in rows:
        assert parts(*encoded(Completions(template="chatml"), row)) == (PROMPT, "2<|im_end|>\n")
        *side, label = encoded(Unpaired(template="chatml"), row | {"label": True})
        assert (parts(*side), label) == ((PROMPT, "2<|im_end|>\n"), [1])
    tokens, record = encoded(Prompts(template="chatml"), {"prompt": ASKED, "answer": 2})
    assert bytes(tokens).decode() == PROMPT
    assert decoded(np.array(record)) == {"prompt": PROMPT, "answer": 2}


def test_texts_of_a_pair_begin_with_their_prompt():
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    fields = encoded(Preferences(), row)
    apart = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    assert fields == encoded(Preferences(), apart)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "a", "chosen": "b", "rejected": "c"}, "no field 'prompt'"),
        ({"prompt": ASKED, "chosen": GOOD, "rejected": "c"}, "one a list of messages"),
        ({"prompt": ASKED, "chosen": ASKED + GOOD, "rejected": BAD}, "assistant's messages alone"),
        ({"prompt": ASKED + GOOD, "chosen": GOOD, "rejected": BAD}, "ends with the user's"),
        ({"prompt": "?", "chosen": ASKED + GOOD, "rejected": ASKED + BAD}, "no message before"),
        ({"chosen": ASKED + GOOD, "rejected": ASKED + GOOD}, "of one or more"),
        ({"chosen": [{"content": "a"}], "rejected": BAD}, "x:3: message 1 .* has no 'role'"),
    ],
)
def test_rows_whose_parts_do_not_fit_are_refused(row, words):
    with pytest.raises(DataError, match=words):
        encoded(Preferences(template="chatml"), row)


def test_the_beginning_that_a_text_spells_out_is_not_put_before_it_again():
    class Begun(ByteTokenizer):
        prefix = (300,)

        def encode_special_with_ends(self, text):
            tokens, ends = self.encode_with_ends(text.removeprefix("<s>"))
            return [300, *tokens], [3, *(end + 3 for end in ends)]

    tokens, counted = answered(Begun(), "<s>a", "b", special_tokens=True)
    assert tokens[:3] == [300, ord("a"), ord("b")]
    assert counted[:3] == [0, 0, 1]
    assert answered(Begun(), "a", "b")[0][:3] == [300, ord("a"), ord("b")]


def test_functions_are_a_list_or_its_json():
    rows = [{"messages": ASKED + GOOD, "tools": tools} for tools in (TOOLS, json.dumps(TOOLS))]
    listed, text = (encoded(Chat(template="chatml_tools"), row) for row in rows)
    assert listed == text
    expected = ChatTemplate(CHATML_TOOLS).render(ASKED + GOOD, tools=TOOLS).text
    assert bytes(listed[0]).decode() == expected
    for wrong in ("[", "3", {"name": "f"}):
        with pytest.raises(DataError, match="x:3: the field 'tools'"):
            encoded(Chat(template="chatml"), {"messages": ASKED + GOOD, "tools": wrong})


def test_a_row_that_the_template_refuses_is_named_or_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('never') }}"
    template += "{% endif %}{{ m.content }};{% endfor %}"
    (tmp_path / "strict.jinja").write_text(template)
    turns = [[{"role": "assistant", "content": text}] for text in ("a", "no", "b", "c")]
    rows = "".join(json.dumps({"messages": each}) + "\n" for each in turns)
    (tmp_path / "rows.jsonl").write_text(rows)

    def prepared(**settings):
        batch = {"kind": "chat", "template": str(tmp_path / "strict.jinja")}
        table = {"path": str(tmp_path / "rows.jsonl"), "batch": batch, "valid_fraction": 0.0}
        return prepare(Data.model_validate({**table, "tokenizer": {"kind": "byte"}, **settings}))

    with pytest.raises(DataError, match=r"rows\.jsonl:2: .*never"):
        prepared()
    with pytest.warns(Notice, match=r"1 row .* left out. The first: .*rows\.jsonl:2: .*never"):
        kept = prepared(bad_rows="skip")
    tokens, turns = kept.tokens("train"), kept.boundaries("train")[::2]
    texts = [kept.tokenizer.decode(tokens[start : start + 2]) for start in turns]
    assert texts == ["a;", "b;", "c;"]
