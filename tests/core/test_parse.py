"""JSON and TOML from anywhere: a value, or a sentence that says where it went wrong."""

import json
import os

import pytest

from mlx_transformers.core.errors import FormatError, RecipeError
from mlx_transformers.core.parse import (
    CONFIG,
    Limits,
    json_line,
    parse_json,
    parse_toml,
    read_json,
    read_records,
    read_table,
    read_text,
)
from mlx_transformers.recipe.load import resolve
from mlx_transformers.runs.folder import LogWarning, RunFolder

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"here: not JSON \(.*column 2\)"),
        ('{\n"a": }', r"line 2, column 6"),
        (b'"\xff"', r"not UTF-8 text \(byte 0xff at offset 1\)"),
        (DEEP, "nested more than 64 deep"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("9" * 5000, "too many digits"),
        ('"' + "x" * 40 * 2**20 + '"', "too large to be read: 40.0 MiB"),
    ],
)
def test_json_beyond_the_limits_is_a_sentence(text, message):
    with pytest.raises(FormatError, match=message):
        parse_json(text, "here")


def test_json_within_the_limits_is_its_value():
    deepest: object = 1
    for _ in range(CONFIG.depth - 1):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest), "here") == deepest
    assert parse_json('\ufeff{"a": "[[[["}'.encode(), "here") == {"a": "[[[["}
    assert parse_json('{"a": 1000000000000000019884624838656}', "here") == {
        "a": 10**30 + 19884624838656
    }


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("pipe", "a pipe or device"), ("", "a folder")):
        with pytest.raises(FormatError, match=f"is {what}, not a file"):
            read_json(tmp_path / name)
    for text, what in (("[]", "a list"), ("null", "null"), ("5", "a number")):
        (tmp_path / "table.json").write_text(text)
        with pytest.raises(FormatError, match=f"holds {what} where a JSON object is expected"):
            read_table(tmp_path / "table.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[{'.'.join('a' * 900)}]\nx = 1\n", "nested more than 32 deep"),
        (f"x = {'[' * 5000}{']' * 5000}", "nested more than 32 deep"),
        (f"x = {'9' * 5000}", "too many digits"),
        ("x = 9223372036854775808", "beyond 64 bits"),
        ("\n".join(f"k{i} = 1" for i in range(30_000)), "more than 20,000 keys"),
        ("x = '" + "y" * 2 * 2**20 + "'", "too large"),
    ],
)
def test_recipes_beyond_the_limits_are_a_sentence(text, message, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        resolve(tmp_path / "r.toml")
    with pytest.raises(FormatError, match=message):
        parse_toml(text, "here")


@pytest.mark.parametrize("path", ["a" + ".a" * 900, "train.steps"])
def test_values_of_the_command_line_have_the_same_limits(path, tmp_path):
    (tmp_path / "r.toml").write_text("x = 1")
    with pytest.raises(RecipeError, match=r"nested more than|too many digits"):
        resolve(tmp_path / "r.toml", [f"{path}={'9' * 5000}"])


@pytest.mark.parametrize("key", ["extends", "from"])
def test_endless_chains_of_recipes_are_refused(key, tmp_path):
    table = "" if key == "extends" else "[model]\n"
    for n in range(1200):
        (tmp_path / f"r{n}.toml").write_text(f'{table}{key} = "r{n + 1}.toml"\n')
    (tmp_path / "r1200.toml").write_text("[model]\nkind = 'decoder'\n")
    with pytest.raises(RecipeError, match=rf"chain of '{key}' .* more than 50 recipes"):
        resolve(tmp_path / "r0.toml")


def test_records_are_lines_that_end_at_line_feeds_alone(tmp_path):
    records = [{"step": n, "sample": "a\u2028b\u2029c\x85d\x0be\ud800"} for n in range(3)]
    for spell in (json_line, lambda r: json.dumps(r, ensure_ascii=False).replace("\ud800", "")):
        text = "".join(spell(record) + "\n" for record in records)
        (tmp_path / "log.jsonl").write_bytes(text.encode())
        found, unreadable = read_records(tmp_path / "log.jsonl")
        assert [len(record["sample"]) for record in found] == [10 if "\\ud800" in text else 9] * 3
        assert unreadable == []
    assert json_line(records[0]).splitlines() == [json_line(records[0])]


def test_lines_that_are_no_records_are_skipped_counted_and_kept(tmp_path):
    good = [b'{"step": 1}', b'{"step": 5}']
    bad = [b"5", b"null", b"[1]", b"\xff", b'{"step"', DEEP.encode()]
    bad += [b'{"step": true}', b'{"step": -1}', b'{"step": 3, "train_loss": 2.0}']
    bad += [b'{"step": 3, "tokens": 9, "val_loss": {}}', b'{"step": 3, "tokens": 9, "sample": 5}']
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1], b'{"step": 6']))
    folder = RunFolder(tmp_path)
    with pytest.warns(LogWarning, match=r"12 of its lines can't be read.*line 2, 3, 4, 5, 6, …"):
        assert [record["step"] for record in folder.records()] == [1, 5]
    folder.forget_after(4)
    assert folder.log.read_bytes().split(b"\n") == [good[0], *bad, b""]


def test_limits_are_what_they_say():
    assert parse_json("[1, 2]", "here", Limits(size=6, depth=1, items=2)) == [1, 2]
    with pytest.raises(FormatError, match="more than 1 keys"):
        parse_json("[1, 2]", "here", Limits(size=6, depth=1, items=1))


def test_a_text_is_read_without_its_mark_and_with_line_feeds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028\ufeff\n".encode())
    assert read_text(path, "--texts a.txt") == "one\ntwo\u2028\ufeff\n"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(RecipeError, match=r"^--texts a\.txt is not UTF-8 text \(byte 0xe9 at off"):
        read_text(path, "--texts a.txt", RecipeError)
    for none in (tmp_path / "none", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(FormatError, match=r"^x can't be read: .*\.$"):
            read_text(none, "x")
