"""Chat templates, and rows of conversations."""

import datetime
import json

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.chat import Chat, touched
from mlx_transformers.data.chat_template import CHATML, ChatTemplate, Rendered, TemplateError
from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.tokenizer import published_template
from mlx_transformers.data.tokenizers.words import WordTokenizer

TURNS = [
    {"role": "user", "content": "a & <b>?"},
    {"role": "assistant", "content": "yes é"},
    {"role": "user", "content": "why?"},
    {"role": "assistant", "content": "so"},
]
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_generated_parts_are_found_and_their_marks_removed():
    rendered = ChatTemplate(CHATML).render(TURNS)
    assert rendered.text.startswith("<|im_start|>user\na & <b>?<|im_end|>\n<|im_start|>assistant\n")
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["yes é<|im_end|>", "so<|im_end|>"]
    prompt = ChatTemplate(CHATML).render(TURNS[:3], add_generation_prompt=True).text
    assert rendered.text.startswith(prompt)


def test_without_marks_a_turn_is_what_it_adds_to_its_prompt():
    template = ChatTemplate(PLAIN)
    assert template.render(TURNS).spans == ()
    rendered = template.answers(TURNS)
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["yes é;", "so;"]


def test_a_template_that_rewrites_earlier_turns_is_refused():
    last_only = "{% for m in messages %}{{ m.content if loop.last else '...' }};{% endfor %}"
    with pytest.raises(DataError, match="turn 2 in another way"):
        ChatTemplate(last_only).answers(TURNS)


def test_a_conversation_that_begins_with_the_assistant_is_refused_with_the_cure():
    template = ChatTemplate(
        "{%- if messages[0].role != 'system' -%}[be kind]{%- endif -%}"
        "{%- for m in messages -%}{{- '<' + m.role + '>' + m.content -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
    )
    greeting, hello = {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Hi."}
    assert template.answers([hello, greeting]).text == "[be kind]<user>Hi.<assistant>Yes?"
    with pytest.raises(
        TemplateError, match=r"begins with the assistant, .* put a turn of the user"
    ):
        template.answers([greeting, hello])


def test_templates_read_tools_variables_and_the_time():
    template = ChatTemplate(
        "{{ bos_token }}{{ tools | tojson }}{{ strftime_now('%d %b %Y') }}{{ mood }}",
        {"bos_token": "<s>"},
        now=datetime.datetime(2025, 3, 9),
    )
    assert template.render([], tools=[{"é": "<'>"}], mood="!").text == (
        """<s>[{"é": "<'>"}]09 Mar 2025!"""
    )


def test_messages_are_given_to_templates_as_transformers_gives_them():
    source = "{{ messages[0].content is defined }} {{ messages[0].reasoning_content }}"
    source += "{% for d in documents %} {{ d.title }}{% endfor %}"
    message = {"role": "assistant", "content": None, "thinking": "hm"}
    rendered = ChatTemplate(source).render([message], documents=[{"title": "A"}])
    assert rendered.text == "False hm A"


def test_a_filter_sees_a_generated_part_without_its_marks():
    source = "{% set t %}{% generation %} hi {% endgeneration %}{% endset %}{{ t | trim | length }}"
    assert ChatTemplate(source).render([]) == Rendered("2")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[9].content.x }}", "refused a conversation"),
        ("{% for m in messages %}", "can't be read"),
        ("{{ ''.__class__.__mro__ }}", "refused a conversation"),
        ("{{ 1 // (messages | length - messages | length) }}", "by zero"),
        ("{{ messages.append(1) }}", "refused a conversation"),
    ],
)
def test_a_template_that_raises_breaks_or_leaves_its_sandbox_is_an_error(source, words):
    with pytest.raises(DataError, match=words):
        ChatTemplate(source).render(TURNS)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": TURNS[:2]},
        {
            "conversations": [
                {"from": "human", "value": TURNS[0]["content"]},
                {"from": "gpt", "value": TURNS[1]["content"]},
            ]
        },
        {"instruction": "a &", "input": "<b>?", "output": "yes é"},
    ],
    ids=["messages", "ShareGPT", "Alpaca"],
)
def test_three_layouts_are_one_conversation(record):
    turns = Chat()._messages(record)
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[1]["content"] == "yes é"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"text": "a"}, "a conversation is 'messages'"),
        ({"messages": [{"content": "a"}]}, "turn 1 has no 'role'"),
        ({"messages": [{"role": "assistant", "content": None}]}, "turn 1 has no 'content'"),
        ({"messages": TURNS[:1]}, "no turn is the assistant's"),
    ],
)
def test_a_record_that_is_no_conversation_names_its_place(record, words):
    with pytest.raises(DataError, match=f"x:3.*{words}"):
        Chat().accept(Piece("", where="x:3", record=record))


def test_tokens_that_straddle_a_border_belong_to_the_answer():
    tokenizer = WordTokenizer(["<unk>", "a", "b", "c"])
    tokens, ends = tokenizer.encode_special_with_ends("a b c")
    assert tokens == [1, 2, 3]
    assert touched(Rendered("a b c", ((2, 3),)), ends).tolist() == [0, 1, 0]


def test_the_published_template_is_a_file_or_a_key_of_the_settings():
    assert published_template({}) is None
    assert published_template({"chat_template.jinja": b"x"}) == "x"
    named = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    for found, expected in (("x", "x"), (named, "d")):
        settings = json.dumps({"chat_template": found}).encode()
        assert published_template({"tokenizer_config.json": settings}) == expected


def test_rows_count_the_turns_that_the_recipe_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n")

    def counted(turns):
        table = Data.model_validate(
            {
                "path": str(tmp_path / "rows.jsonl"),
                "tokenizer": {"kind": "byte"},
                "valid_fraction": 0.0,
                "batch": {"kind": "chat", "template": "chatml", "turns": turns},
            }
        )
        prepared = prepare(table)
        batch = table.batch.train(prepared, BatchSetting(seq_len=160, seed=0))
        rows = batch.batch(np.arange(1))
        return prepared.tokenizer.decode(rows["tokens"][0, 1:][rows["weights"][0] > 0])

    assert counted("all") == "yes é<|im_end|>so<|im_end|>"
    assert counted("last") == "so<|im_end|>"
    assert counted("text") == ChatTemplate(CHATML).render(TURNS).text[1:]


def test_a_tokenizer_without_a_template_needs_one(tmp_path):
    with pytest.raises(DataError, match="chatml"):
        Chat().encode({"messages": TURNS}, WordTokenizer(["<unk>", "a"]), {})
    with pytest.raises(DataError, match="can't be read"):
        Chat(template=str(tmp_path / "none")).cache_key()
