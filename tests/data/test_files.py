"""Files as users have them: splits by name, formats, compression, links, odd names, bad rows."""

import bz2
import gzip
import json
import lzma
import os
import sys
import types

import numpy as np
import pytest
from pydantic import ValidationError

from mlx_transformers.core.errors import DataError, MlxtError, Notice
from mlx_transformers.data.checked import Checked
from mlx_transformers.data.config import Data
from mlx_transformers.data.data_key import DataKey
from mlx_transformers.data.files import Files
from mlx_transformers.data.prepare import prepare

ROWS = [{"text": f"row {n} ü\u2028x", "label": n % 2} for n in range(5)]


def texts(path, key="text"):
    """The text of every document of a source without bad rows."""
    checked = Checked(Files(str(path), key), lambda piece: piece, skip=False)
    return [piece.text for piece in checked.pieces()]


def names(files):
    return [file.name for file in files]


def write(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"text of {file}\n" * 20)


@pytest.mark.parametrize(
    ("files", "train", "valid", "test"),
    [
        (["train.txt", "valid.txt", "test.txt"], ["train.txt"], ["valid.txt"], ["test.txt"]),
        (["train/a.txt", "dev/b.txt", "test/c.txt"], ["a.txt"], ["b.txt"], ["c.txt"]),
        (["d/wiki.train.raw", "d/wiki.test.raw"], ["wiki.train.raw"], [], ["wiki.test.raw"]),
        (["Train-00-of-01.csv", "Validation.csv"], ["Train-00-of-01.csv"], ["Validation.csv"], []),
        (["train.txt", "val.txt", "more.txt"], ["more.txt", "train.txt"], ["val.txt"], []),
        (["train.py", "test.py"], ["test.py", "train.py"], [], []),
        (["a.txt", "test.txt"], ["a.txt"], [], ["test.txt"]),
        (["a.txt", "my_test.txt"], ["a.txt", "my_test.txt"], [], []),
        (["val/a.txt", "Test-0.txt"], [], ["a.txt"], ["Test-0.txt"]),
        (["contest.txt", "trainer.txt"], ["contest.txt", "trainer.txt"], [], []),
    ],
)
def test_the_names_in_a_folder_are_its_splits(tmp_path, files, train, valid, test):
    write(tmp_path, *files)
    for pattern in (tmp_path, tmp_path / "**" / "*"):
        found = Files(str(pattern)).found
        assert (names(found.train), names(found.valid), names(found.test)) == (train, valid, test)


def test_a_test_split_is_never_read_and_one_line_says_so(data, tmp_path):
    folder = tmp_path / "set"
    write(folder, "train.txt", "val.txt", "test.txt")
    with pytest.warns(Notice, match=r"train.txt trains, val.txt validates, test.txt is never read"):
        prepared = prepare(data(path=str(folder)))
    decoded = [prepared.tokenizer.decode(prepared.tokens(s)[:]) for s in ("train", "valid")]
    assert decoded == ["text of train.txt\n" * 20, "text of val.txt\n" * 20]
    # A file that is named by itself is used, whatever its name.
    assert names(Files([str(folder / "test.txt")]).files) == ["test.txt"]
    with pytest.warns(Notice, match=r"val.txt is left out"):
        key = DataKey(data(path=str(folder), valid_path=str(folder / "test.txt")))
    assert names(key.sources[1].files) == ["test.txt"]


@pytest.mark.parametrize("files", [["test.txt"], ["dev/a.txt", "test/a.txt"]])
def test_a_folder_without_a_training_file_is_refused_but_for_validation(data, tmp_path, files):
    write(tmp_path / "held", *files)
    with pytest.raises(DataError, match=r"no training file: .*(test|dev/a).txt .*train.txt"):
        DataKey(data(path=str(tmp_path / "held")))
    write(tmp_path, "a.txt")
    key = DataKey(data(path=str(tmp_path / "a.txt"), valid_path=str(tmp_path / "held")))
    assert names(key.sources[1].files) == [os.path.basename(files[0])]


@pytest.mark.parametrize("files", [["train.bin", "val.txt"], ["train.txt", "val.bin"]])
def test_a_validation_split_of_another_kind_is_refused(data, tmp_path, files):
    write(tmp_path / "set", *files, "prepare.py")
    with pytest.raises(DataError, match=rf"validation data .*{files[1]}.*of one kind"):
        DataKey(data(path=str(tmp_path / "set")))
    # texts beside a whole set of tokens are what the tokens were made of
    write(tmp_path / "set", "train.bin", "val.bin", "val.txt")
    found = Files(str(tmp_path / "set")).found
    assert (names(found.train), names(found.valid)) == (["train.bin"], ["val.bin"])


def test_without_a_validation_split_part_of_training_is_held_out(data, tmp_path):
    write(tmp_path / "set", "train.txt", "test.txt")
    prepared = prepare(data(path=str(tmp_path / "set")))
    assert prepared.count("train", "bytes") + prepared.count("valid", "bytes") == 18 * 20
    assert prepared.count("valid") > 0


def spell_array(path, rows):
    path.write_text(json.dumps(rows, indent=1))


def spell_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "spell"),
    [
        ("a.json", spell_array),
        ("a.json", spell_lines),
        ("a.json", lambda path, rows: path.write_text(json.dumps({"version": 1, "data": rows}))),
        ("a.json", lambda path, rows: path.write_text("\n".join(map(str, map(json.dumps, rows))))),
        ("a.ndjson", spell_lines),
        ("a.jsonl", spell_lines),
    ],
)
@pytest.mark.parametrize("compress", [None, gzip, bz2, lzma])
def test_rows_are_read_from_every_spelling_of_json(tmp_path, name, spell, compress):
    path = tmp_path / name
    spell(path, ROWS)
    if compress is not None:
        suffix = {gzip: ".gz", bz2: ".bz2", lzma: ".xz"}[compress]
        packed = tmp_path / (name + suffix)
        packed.write_bytes(compress.compress(path.read_bytes()))
        path = packed
    assert texts(path) == [row["text"] for row in ROWS]
    assert texts(tmp_path)[: len(ROWS)] == [row["text"] for row in ROWS]


def test_a_json_array_larger_than_a_block_is_read_value_by_value(tmp_path):
    rows = [{"text": "x" * n} for n in (10, 1 << 20, 5, 3 << 20)]
    spell_array(tmp_path / "a.json", rows)
    assert [len(text) for text in texts(tmp_path / "a.json")] == [10] + [1 << 18] * 4 + [5] + [
        1 << 18
    ] * 12


def test_records_come_from_tables_with_commas(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"one, ""two""\nthree",x\nfour,y\n')
    pieces = list(Files(str(tmp_path / "a.csv"), None).pieces())
    assert [dict(piece.record) for piece in pieces] == [
        {"text": 'one, "two"\nthree', "label": "x"},
        {"text": "four", "label": "y"},
    ]
    assert pieces[1].where.endswith("a.csv:4")


def test_parquet_needs_its_package_and_is_read_in_batches(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        texts(path)

    class ParquetFile:
        def __init__(self, given):
            assert given == path

        def iter_batches(self, batch_size):
            for start in (0, 3):
                yield types.SimpleNamespace(to_pylist=lambda start=start: ROWS[start : start + 3])

    parquet = types.SimpleNamespace(ParquetFile=ParquetFile)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(parquet=parquet))
    assert texts(path) == [row["text"] for row in ROWS]
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no Parquet file"):
        texts(path)


def test_zstd_needs_its_package(tmp_path):
    path = tmp_path / "a.txt.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00")
    with pytest.raises(DataError, match=r"pip install zstandard|is damaged"):
        texts(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # Without the time, which would be part of the test's name and differ between processes.
        (
            "a.txt.gz",
            gzip.compress(b"hello" * 1000, mtime=0)[:-20],
            "is damaged: it can't be decompressed",
        ),
        ("a.txt.bz2", bz2.compress(b"hello" * 1000)[:-20], "is damaged: it can't be decompressed"),
        ("a.txt.gz", b"hello", "is no .gz file"),
        ("a.docx", b"PK\x03\x04....", "is a ZIP archive .* unpack it"),
        ("a.pdf", b"%PDF-1.7", "is a PDF: extract its text"),
        ("a.tar", b"\0" * 257 + b"ustar", "is a tar archive: unpack it"),
        ("a.npy", b"\x93NUMPY\x01", "is a NumPy array"),
        ("a.json", b"[{]", r"a.json:1: not JSON"),
        ("a.json", b"[\n\n" + b"[" * 100_000, r"a.json:3: nested more than 64 deep"),
        ("a.json", b'[{"text": ' + b"9" * 5000 + b"}]", r"a.json:1: .* too many digits"),
        ("a.csv", b'text\n"a', "a.csv:2: not a .csv file"),
        ("a.xyz", b"hello", "records come from .jsonl, .json or .parquet"),
    ],
)
def test_what_holds_no_rows_is_refused_by_its_kind(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    key = "text" if name[-4:] not in (".csv", ".xyz") else None
    with pytest.raises(DataError, match=message):
        texts(tmp_path / name, key)


def test_a_plain_file_with_a_compressed_content_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(gzip.compress(b"hello"))
    assert texts(tmp_path / "a.txt") == ["hello"]


def test_files_about_a_data_set_are_no_part_of_it(tmp_path):
    spell_lines(tmp_path / "a.jsonl", ROWS)
    write(tmp_path, "README.md", "LICENSE.txt")
    assert names(Files(str(tmp_path)).files) == ["a.jsonl"]
    (tmp_path / "a.jsonl").unlink()
    assert names(Files(str(tmp_path)).files) == ["LICENSE.txt", "README.md"]


def test_a_link_to_nowhere_is_named_as_one(tmp_path):
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    with pytest.raises(DataError, match=r"a link to 'nowhere.txt', which isn't there"):
        Files(str(tmp_path / "gone.txt"))


def test_an_array_that_was_cut_short_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "one"},\n{"text": "two"}')
    with pytest.raises(DataError, match=r"a.json:2: the array .* cut short"):
        list(Files(str(tmp_path / "a.json")).pieces())


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    write(tmp_path / "outside", "book.txt", "deep/more.txt")
    write(tmp_path / "data", "note.txt", "a/b.txt")
    data = tmp_path / "data"
    (data / "books").symlink_to(tmp_path / "outside")
    (data / "again").symlink_to(tmp_path / "outside")
    (data / "a" / "loop").symlink_to(data)
    (data / "self.txt").symlink_to(data / "self.txt")
    (data / "gone.txt").symlink_to(tmp_path / "nowhere")
    (data / "same.txt").symlink_to(data / "note.txt")
    with pytest.warns(Notice, match=r"2 links lead nowhere: .*gone.txt and others. Left out."):
        found = names(Files(str(data)).files)
    assert sorted(found) == ["b.txt", "book.txt", "more.txt", "note.txt"]


@pytest.mark.parametrize("folder", ["corpus [v2]", "[a-z]", "x?y", "what * is"])
def test_signs_of_globs_may_be_in_names(tmp_path, folder):
    write(tmp_path / folder, "part [1].txt", "b/part2.txt")
    for pattern in (
        f"{folder}/*.txt",
        f"{folder}/part [[]1].txt",
        f"{folder}/part [1].txt",
        "*/part [[]1]*",
    ):
        assert names(Files(str(tmp_path / pattern)).files) == ["part [1].txt"], pattern
    deep = Files(str(tmp_path / folder / "**" / "*.txt")).files
    assert sorted(names(deep)) == ["part [1].txt", "part2.txt"]


@pytest.mark.parametrize("stem", ["x" * 245, "ü" * 120, "tab\tand\x1b[31m", "a" + "\udcff"])
def test_any_name_of_a_file_can_be_prepared(data, tmp_path, stem):
    path = tmp_path / f"{stem}.txt"
    path.write_text("some text\n" * 50)
    prepared = prepare(data(path=str(path)))
    assert prepared.count("train", "bytes") == 350
    assert prepare(data(path=str(path))).folder == prepared.folder


def test_pipes_are_refused_at_once(data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or device"):
        Files(str(tmp_path / "pipe"))
    write(tmp_path, "a.txt")
    tokenizer = {"kind": "tokenizer_json", "path": str(tmp_path / "pipe")}
    with pytest.raises(DataError, match="is a pipe or device"):
        prepare(data(path=str(tmp_path / "a.txt"), tokenizer=tokenizer))


@pytest.mark.parametrize("path", ["", " ", [], ["a.txt", ""]])
@pytest.mark.parametrize("key", ["path", "valid_path"])
def test_an_empty_path_is_an_error_that_names_unset(path, key):
    table = {"corpus": "stdlib", "tokenizer": {"kind": "byte"}, key: path}
    with pytest.raises(ValidationError, match=rf"data.{key} is empty.*unset = \['data.{key}'\]"):
        Data.model_validate(table)


@pytest.mark.parametrize("name", ["MLXT_CACHE", "XDG_CACHE_HOME"])
def test_the_home_folder_is_found_in_every_path(data, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLXT_CACHE", raising=False)
    monkeypatch.setenv(name, "~/kept")
    write(tmp_path, "a.txt")
    assert prepare(data(path="~/a.txt")).folder.is_relative_to(tmp_path / "kept")


def test_without_a_home_folder_the_variable_to_set_is_named(data, monkeypatch, tmp_path):
    def no_home(*_):
        raise RuntimeError("Could not determine home directory.")

    for variable in ("HOME", "MLXT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(MlxtError, match=r"no home folder.*\$MLXT_CACHE"):
        prepare(data())
    with pytest.raises(MlxtError, match=r"~ in '~/a.txt': set \$HOME"):
        Files("~/a.txt")


BAD = ['{"text": null}', '{"txt": "x"}', "[1", "5", '{"text": "\\ud800"}', "[" * 9999]


def test_bad_rows_stop_or_are_left_out_and_counted(data, tmp_path):
    path = tmp_path / "a.jsonl"
    good = [json.dumps({"text": f"text {n}"}) for n in range(50)]
    path.write_text("\n".join([*good[:3], *BAD, *good[3:]]))
    with pytest.raises(DataError, match=r'a.jsonl:4: .*null\. data.bad_rows = "skip"'):
        prepare(data(path=str(path)))
    with pytest.warns(Notice, match=r"6 rows of .* were left out. The first: .*a.jsonl:4:.*null"):
        prepared = prepare(data(path=str(path), bad_rows="skip"))
    assert prepared.manifest["skipped_rows"] == 6
    counts = [prepared.count(split, "documents") for split in ("train", "valid")]
    assert sum(counts) == 50
    path.write_text("\n".join(BAD))
    with pytest.raises(DataError, match=r"all 6 rows were left out. The first: .*a.jsonl:1"):
        prepare(data(path=str(path), bad_rows="skip"))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 10, 2], ["0", "1", "2", "10"]),
        (["0", "1", "10", "2"], ["0", "1", "10", "2"]),
        ([True, False, True, False], ["false", "true"]),
        ([1.0, 0, 3.0, 2], ["0", "1", "2", "3"]),
        (["a", 1, "1", 2], ["1", "2", "a"]),
    ],
)
def test_labels_may_be_numbers(data, tmp_path, labels, classes):
    path = tmp_path / "a.jsonl"
    spell_lines(path, [{"text": f"t{n}", "label": label} for n, label in enumerate(labels * 9)])
    prepared = prepare(data(path=str(path), batch={"kind": "labeled"}))
    assert prepared.labels == classes
    stored = set(prepared.tokens("train")[:].tolist())
    assert set(range(len(classes))) <= stored


def test_a_label_that_is_none_names_its_row(data, tmp_path):
    path = tmp_path / "a.jsonl"
    spell_lines(path, [{"text": "a", "label": 0}, {"text": "b", "label": None}])
    with pytest.raises(DataError, match=r"a.jsonl:2: the label in the field 'label' is null"):
        prepare(data(path=str(path), batch={"kind": "labeled"}))


def header(magic, tokens):
    start = np.zeros(256, "<i4")
    start[:3] = magic, 1, len(tokens)
    return start.tobytes() + tokens.tobytes()


@pytest.mark.parametrize(
    ("content", "expected", "size"),
    [
        (np.array([5, 0, 9, 256, 7], "<u2").tobytes(), [5, 0, 9, 256, 7], 257),
        (np.array([5, 0, 9, 256, 7], "<u4").tobytes(), [5, 0, 9, 256, 7], 257),
        (np.array([5, 65_600, 3], "<u4").tobytes(), [5, 65_600, 3], 70_000),
        (header(20240520, np.arange(900, dtype="<u2")), list(range(900)), 1000),
        (header(20240801, np.arange(900, dtype="<u4")), list(range(900)), 1000),
    ],
)
def test_the_type_of_token_files_is_found(tmp_path, content, expected, size):
    path = tmp_path / "train.bin"
    path.write_bytes(content)
    source = Files(str(path), vocab_size=lambda: size)
    (piece,) = source.pieces()
    assert piece.tokens.tolist() == expected


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (b"abc", 257, "no file of uint16 tokens: it has 3 bytes"),
        (b"abcdef", 70_000, r"no file of uint32 tokens \(the vocabulary has 70,000\)"),
        (header(20240520, np.arange(900, dtype="<u2"))[:-2], 1000, "header names 900 tokens"),
    ],
)
def test_token_files_of_an_odd_size_are_refused(tmp_path, content, size, message):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(Files(str(tmp_path / "a.bin"), vocab_size=lambda: size).pieces())


def test_compressed_token_files_are_not_read_as_tokens(tmp_path):
    path = tmp_path / "train.bin.gz"
    path.write_bytes(gzip.compress(bytes(range(250))))
    with pytest.raises(DataError, match=r"is compressed.*decompress it"):
        list(Files(str(path), vocab_size=lambda: 257).pieces())


def test_a_folder_of_token_files_is_what_nanogpt_makes(data, tmp_path):
    folder = tmp_path / "openwebtext"
    write(folder, "prepare.py", "readme.md", "meta.pkl")
    for name, n in (("train", 400), ("val", 40)):
        (np.arange(n, dtype="<u2") % 256).tofile(folder / f"{name}.bin")
    prepared = prepare(data(path=str(folder)))
    assert (prepared.count("train"), prepared.count("valid")) == (400, 40)
    with pytest.raises(DataError, match="the one that made them"):
        prepare(data(path=str(folder), tokenizer={"kind": "char"}))
