"""Prepared sets: nothing lost, nothing leaked, nothing stale, nothing half done."""

import json
import os
import shutil
import sys
import tracemalloc

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data import pieces
from mlx_transformers.data.corpora.stdlib import Stdlib
from mlx_transformers.data.files import Files
from mlx_transformers.data.inspect import BREAK, corpora, prepared_sets, report, shown
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.prepared import Prepared
from mlx_transformers.data.shards import SPLITS, Counts, SplitWriter, Tokens, token_dtype
from mlx_transformers.data.stream import EvalStream, TrainStream
from mlx_transformers.data.tokenizers.byte import ByteTokenizer


def documents(prepared, split):
    """The decoded documents of a split."""
    tokens, starts = prepared.tokens(split), prepared.boundaries(split)
    ends = [*starts[1:], len(tokens)]
    return [
        prepared.tokenizer.decode(tokens[int(start) : int(end)])
        for start, end in zip(starts, ends, strict=True)
    ]


def texts(folder):
    return [text for path in sorted(folder.iterdir()) if (text := path.read_bytes().decode())]


def content(folder):
    """Every byte of a prepared set."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["char", "byte", "sentencepiece"])
def test_the_documents_of_both_splits_are_those_of_the_source(data, library, kind):
    tokenizer = {"kind": kind} | ({"vocab_size": 600} if kind == "sentencepiece" else {})
    prepared = prepare(data(tokenizer=tokenizer))
    train, valid = (documents(prepared, split) for split in SPLITS)
    assert sorted(train + valid) == sorted(texts(library))
    assert not set(train) & set(valid)
    assert train
    assert valid
    for split, found in (("train", train), ("valid", valid)):
        assert prepared.count(split, "documents") == len(found)
        assert prepared.count(split, "bytes") == sum(len(text.encode()) for text in found)
        assert prepared.count(split) == len(prepared.tokens(split))


def test_the_standard_library_can_be_prepared_with_no_file_and_no_network(data, monkeypatch):
    monkeypatch.setattr(Stdlib, "files", sorted(Stdlib().files)[:20])
    prepared = prepare(data(path=None, corpus="stdlib"))
    assert sum(prepared.count(split, "documents") for split in SPLITS) > 15
    assert prepared.manifest["licence"] == "PSF-2.0"


def test_every_document_ends_with_the_end_token(data):
    prepared = prepare(data())
    for split in SPLITS:
        tokens = prepared.tokens(split)[:]
        ends = np.flatnonzero(tokens == 256)
        np.testing.assert_array_equal([*prepared.boundaries(split)[1:], len(tokens)], ends + 1)


def test_a_new_document_moves_no_old_one(data, library):
    before = documents(prepare(data()), "valid")
    (library / "aaa.py").write_text("print('new')\n")
    after = documents(prepare(data()), "valid")
    assert set(before) <= set(after)


def test_the_tail_split_cuts_as_nanogpt_does(data, library):
    text = "".join(texts(library))
    prepared = prepare(data(split="tail", valid_fraction=0.1, tokenizer={"kind": "char"}))
    cut = int(len(text) * 0.9)
    assert "".join(documents(prepared, "train")) == text[:cut]
    assert "".join(documents(prepared, "valid")) == text[cut:]
    assert prepared.boundaries("valid")[0] == 0


def test_one_text_file_is_split_by_its_tail_unless_told_otherwise(data, library):
    path = str(library / "argparse.py")
    prepared = prepare(data(path=path, tokenizer={"kind": "char"}))
    assert prepared.bytes_per_token("valid") >= 1
    with pytest.raises(DataError, match=r'left nothing for .* 1 document.*data.split="tail"'):
        prepare(data(path=path, split="documents"))


def test_files_for_validation_can_be_named(data, library):
    keys = {"path": str(library / "a*.py"), "valid_path": str(library / "b*.py")}
    prepared = prepare(data(**keys))
    for split, letter in (("train", "a"), ("valid", "b")):
        expected = [p.read_text() for p in sorted(library.glob(f"{letter}*.py"))]
        assert documents(prepared, split) == [text for text in expected if text]


def test_no_validation_is_possible(data):
    prepared = prepare(data(valid_fraction=0.0))
    assert (prepared.count("valid"), len(prepared.boundaries("valid"))) == (0, 0)


def test_shards_are_one_array_whatever_their_size(data):
    whole = prepare(data())
    expected = {split: whole.tokens(split)[:] for split in SPLITS}
    starts = whole.boundaries("train")[:]
    shutil.rmtree(whole.folder)
    split = prepare(data(), shard_tokens=1000)
    assert len(list(split.folder.glob("train-*.bin"))) == -(-len(expected["train"]) // 1000)
    for name, tokens in expected.items():
        np.testing.assert_array_equal(split.tokens(name)[:], tokens)
        rows = split.tokens(name).rows(np.array([0, 990, 1000, 5000]), 2500)
        for row, start in zip(rows, (0, 990, 1000, 5000), strict=True):
            np.testing.assert_array_equal(row, tokens[start : start + 2500])
    np.testing.assert_array_equal(split.boundaries("train"), starts)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_tokens_that_need_more_get_wider_shards(tmp_path, vocab_size, dtype):
    assert token_dtype(vocab_size).name == dtype
    writer = SplitWriter(tmp_path, "train", token_dtype(vocab_size), 4, Counts())
    tokens = np.array([0, vocab_size - 1, 3, 4, 5])
    writer.append(tokens)
    writer.close()
    read = Tokens(tmp_path, "train", token_dtype(vocab_size), 5, 4)
    np.testing.assert_array_equal(read[:], tokens)


def test_a_finished_set_is_not_made_again(data, monkeypatch):
    first = prepare(data())
    monkeypatch.setattr(ByteTokenizer, "encode_array", None)
    assert prepare(data()).fingerprint == first.fingerprint


def test_a_changed_text_is_prepared_anew(data, library):
    first = prepare(data(tokenizer={"kind": "char"}))
    (library / "zzz.py").write_text("x = 1\n")
    second = prepare(data(tokenizer={"kind": "char"}))
    assert second.folder == first.folder
    assert second.fingerprint != first.fingerprint
    assert "x = 1\n" in documents(second, "train") + documents(second, "valid")


def test_other_content_of_the_same_size_is_noticed(data, library):
    first = prepare(data())
    path = library / "argparse.py"
    path.write_text(path.read_text().replace("parser", "porser"))
    assert prepare(data()).fingerprint != first.fingerprint


def test_a_new_date_alone_changes_nothing(data, library, monkeypatch):
    first = prepare(data())
    os.utime(library / "argparse.py", (1, 1))
    monkeypatch.setattr(ByteTokenizer, "encode_array", None)
    assert prepare(data()).fingerprint == first.fingerprint
    assert prepare(data()).manifest["identity"] != first.manifest["identity"]


def test_another_tokenizer_or_split_is_another_set(data):
    folders = {
        prepare(table).folder
        for table in (data(), data(tokenizer={"kind": "char"}), data(valid_fraction=0.4))
    }
    assert len(folders) == 3


@pytest.mark.parametrize("at", [1, 7, 20])
def test_an_interrupted_preparation_ends_in_the_same_bytes(data, monkeypatch, cache, at):
    monkeypatch.setattr("mlx_transformers.data.prepare.SAVE_EVERY", 50_000)
    tables = data(tokenizer={"kind": "sentencepiece", "vocab_size": 600})
    undisturbed = content(prepare(tables, shard_tokens=10_000).folder)

    monkeypatch.setenv("MLXT_CACHE", str(cache) + "-2")
    calls = []

    def progress(what, done, total):
        calls.append(done)
        if what == "tokenizing" and sum(1 for d in calls if d) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tables, progress=progress, shard_tokens=10_000)
    again = []
    prepared = prepare(
        tables, progress=lambda what, done, total: again.append(done), shard_tokens=10_000
    )
    assert content(prepared.folder) == undisturbed
    if at == 20:  # it went on, rather than starting anew
        assert min(done for done in again if done) > 50_000


def test_an_interrupted_preparation_of_a_text_that_changed_starts_anew(data, library, monkeypatch):
    monkeypatch.setattr("mlx_transformers.data.prepare.SAVE_EVERY", 50_000)

    def progress(what, done, total):
        if done > 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(data(), progress=progress)
    (library / "aaa.py").write_text("first = True\n")
    train, valid = (documents(prepare(data()), split) for split in SPLITS)
    assert sorted(train + valid) == sorted(texts(library))


def test_a_text_that_changes_while_it_is_read_is_refused(data, library):
    def progress(what, done, total):
        (library / "argparse.py").write_text("x")

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(data(), progress=progress)


def test_progress_ends_at_the_size_of_the_text(data, library):
    seen = []
    prepare(data(), progress=lambda what, done, total: seen.append((what, done, total)))
    size = sum(path.stat().st_size for path in library.iterdir())
    assert seen[-1] == ("tokenizing", size, size)


@pytest.mark.parametrize(("kind", "told"), [("char", True), ("byte", False)])
def test_progress_tells_the_training_of_a_tokenizer_that_is_trained(data, kind, told):
    words = []
    prepare(data(tokenizer={"kind": kind}), progress=lambda what, *counts: words.append(what))
    assert ("training the tokenizer" in words) == told


def peak(tables):
    tracemalloc.start()
    prepare(tables, shard_tokens=100_000)
    _, high = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return high


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_memory_does_not_grow_with_the_text(data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(pieces, "PIECE_CHARS", 1 << 14)
    monkeypatch.setattr(pieces, "READ_BYTES", 1 << 14)
    text = "".join(path.read_text() for path in sorted((tmp_path / "library").iterdir()))[:200_000]
    peaks = []
    for times in (10, 10, 30, 30):
        path = tmp_path / f"{len(peaks)}.txt"
        path.write_text(text * times)
        peaks.append(peak(data(path=str(path), tokenizer={"kind": kind})))
    # The smaller of two: anything else in the process that allocates meanwhile is counted too.
    assert min(peaks[2:]) < 1.2 * max(peaks[:2]) < len(text) * 10


def test_a_text_without_a_word_is_an_error(data, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"no text in .*empty.txt"):
        prepare(data(path=str(tmp_path / "empty.txt"), tokenizer={"kind": "char"}))


def test_token_files_keep_their_tokens_and_find_their_documents(data, tmp_path):
    documents = [list(b"first document"), list(b"second"), list("dritte süße".encode())]
    tokens = np.array([token for one in documents for token in [*one, 256]], dtype="<u2")
    tokens.tofile(tmp_path / "train.bin")
    prepared = prepare(data(path=str(tmp_path / "train.bin"), valid_fraction=0.0))
    np.testing.assert_array_equal(prepared.tokens("train")[:], tokens)
    assert prepared.boundaries("train").tolist() == [0, 15, 22]
    assert prepared.count("train", "bytes") == sum(map(len, documents))


def test_token_files_need_the_tokenizer_that_made_them(data, tmp_path):
    np.array([1, 2, 300], dtype="<u2").tofile(tmp_path / "train.bin")
    path = str(tmp_path / "train.bin")
    with pytest.raises(DataError, match="the one that made them"):
        prepare(data(path=path, tokenizer={"kind": "char"}))
    with pytest.raises(DataError, match=r"token 300.*257 tokens"):
        prepare(data(path=path, valid_fraction=0.0))


def test_a_damaged_set_is_an_error_that_says_what_to_remove(data):
    prepared = prepare(data())
    shard = prepared.folder / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"damaged.*Remove the folder"):
        prepared.tokens("train")
    (prepared.folder / "train.idx").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged.*Remove the folder"):
        prepared.boundaries("train")


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "x"},
        {"dtype": "float32"},
        {"checksums": {"train": 5}},
        {"checksums": []},
        {"labels": 5},
        {"tokenizer": {"vocab_size": float("inf")}},
        {"splits": {s: dict.fromkeys(("tokens", "documents", "bytes"), 2**70) for s in SPLITS}},
    ],
)
def test_a_damaged_manifest_is_an_error_that_says_what_to_remove(data, change):
    manifest = prepare(data()).folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(DataError, match=r"damaged.*Remove the folder"):
        Prepared(manifest.parent).tokens("train")


def test_a_folder_that_cannot_be_written_is_an_error(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MLXT_CACHE"):
        prepare(data())


def test_the_fingerprint_follows_the_text_and_not_its_place(data, library, tmp_path):
    here = prepare(data()).fingerprint
    moved = tmp_path / "elsewhere"
    shutil.move(library, moved)
    assert prepare(data(path=str(moved))).fingerprint == here
    first = sorted(moved.iterdir())[0]
    first.write_text(first.read_text() + "# one line more\n")
    assert prepare(data(path=str(moved))).fingerprint != here


def test_bytes_per_token_turns_nats_per_token_into_bits_per_byte(data, library):
    prepared = prepare(data(tokenizer={"kind": "sentencepiece", "vocab_size": 600}))
    for split in SPLITS:
        size = sum(len(text.encode()) for text in documents(prepared, split))
        assert prepared.bytes_per_token(split) == size / len(prepared.tokens(split))


def test_the_manifest_says_where_everything_comes_from(data):
    prepared = prepare(data(tokenizer={"kind": "sentencepiece", "vocab_size": 600}))
    manifest = json.loads((prepared.folder / "manifest.json").read_text())
    assert manifest["tokenizer"]["fingerprint"] == prepared.tokenizer.fingerprint()
    assert set(manifest["packages"]) == {"python", "numpy", "sentencepiece"}
    assert manifest["splits"]["train"]["bytes_per_token"] == prepared.bytes_per_token("train")


def test_a_report_shows_counts_and_where_documents_start(data, library):
    prepared = prepare(data())
    found = report(prepared, n_rows=2, length=50)
    assert [split.documents for split in found.splits] == [
        prepared.count(split, "documents") for split in SPLITS
    ]
    assert all(len(split.rows) == 2 for split in found.splits)
    assert json.loads(json.dumps(found.to_dict()))["dtype"] == "uint16"
    second = int(prepared.boundaries("train")[1])
    text = shown(prepared, "train", second - 20, 50)
    before, after = text.split(BREAK)
    first_document, second_document = documents(prepared, "train")[:2]
    assert first_document.endswith(before)
    assert second_document.startswith(after)


def test_corpora_and_prepared_sets_are_listed(data):
    names = [corpus.name for corpus in corpora()]
    assert names[:3] == ["shakespeare", "stdlib", "docstrings"]
    assert {"bible_de", "sentiment", "pronunciation"} <= set(names)
    assert {c.name for c in corpora() if c.available} >= {"stdlib", "docstrings"}
    assert all(c.what and c.size and c.licence and c.attribution for c in corpora())
    assert prepared_sets() == []
    prepared = prepare(data())
    assert [each.folder for each in prepared_sets()] == [prepared.folder]


def test_a_source_reads_the_same_every_time(library):
    source = Files(str(library))
    assert [p.text for p in source.pieces()] == [p.text for p in source.pieces()]
    assert source.digest() == Files(str(library)).digest()


def damage(path, start, content):
    whole = bytearray(path.read_bytes())
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


def read_some(prepared, index):
    return prepared.boundaries("valid") if index else prepared.tokens("train").rows([0, 2900], 300)


@pytest.mark.parametrize("content", [bytes(200), bytes(range(200))])
@pytest.mark.parametrize("name", ["train-00000.bin", "train-00003.bin", "valid.idx"])
def test_changed_bytes_of_a_set_are_found_when_they_are_read(data, monkeypatch, name, content):
    monkeypatch.setattr("mlx_transformers.data.shards.BLOCK_TOKENS", 700)
    monkeypatch.setattr("mlx_transformers.data.checksums.BLOCK_TOKENS", 700)
    prepared = prepare(data(), shard_tokens=1000)
    damage(prepared.folder / name, 8, content[: 8 if name == "valid.idx" else 200])
    prepared = prepare(data(), shard_tokens=1000)
    with pytest.raises(DataError, match=r"damaged: .* changed.*Remove the folder"):
        read_some(prepared, name == "valid.idx")
    if name == "train-00003.bin":  # blocks without damage are read
        assert len(prepared.tokens("train")[:700]) == 700


def test_a_set_without_checksums_gets_them_and_stays_the_same(data):
    prepared = prepare(data())
    manifest = prepared.folder / "manifest.json"
    with_sums = json.loads(manifest.read_text())
    without = {key: value for key, value in with_sums.items() if key != "checksums"}
    manifest.write_text(json.dumps(without))
    assert len(Prepared(prepared.folder).tokens("train")[:]) == prepared.count("train")
    assert prepare(data()).manifest == with_sums


def test_tokens_beyond_the_vocabulary_never_reach_the_device(data):
    prepared = prepare(data())
    prepared.manifest["checksums"] = {}
    damage(prepared.folder / "train-00000.bin", 0, b"\xff" * 60_000)
    damage(prepared.folder / "valid-00000.bin", 0, b"\xff" * 60_000)
    setting = BatchSetting(32, shuffle=False, batch_size=4)
    with pytest.raises(DataError, match=r"token 65535 in 'tokens', and the vocabulary has 257"):
        TrainStream(prepared, setting, loader="none").batch(0)
    with pytest.raises(DataError, match=r"token 65535 in 'tokens'"):
        next(iter(EvalStream(prepared, setting)))


@pytest.mark.parametrize("note", ["[]", "", "{}", '{"digest": 1}', "null", '{"splits": {}}'])
@pytest.mark.parametrize("finished", [True, False])
def test_a_set_with_damaged_notes_is_prepared_anew(data, note, finished):
    folder = prepare(data()).folder
    expected = content(folder)
    if finished:
        (folder / "manifest.json").write_text(note)
    else:
        partial = folder.rename(folder.with_name(folder.name + ".partial"))
        (partial / "manifest.json").unlink()
        (partial / "progress.json").write_text(note)
    assert content(prepare(data()).folder) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads names of open files from /proc")
def test_everything_is_on_the_disk_before_the_manifest_is_written(data, monkeypatch):
    done = []
    for module in ("shards", "cache"):
        monkeypatch.setattr(
            f"mlx_transformers.data.{module}.sync_handle",
            lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")),
        )
    folder = prepare(data()).folder
    names = [name.rsplit("/", 1)[1] for name in done]
    first = names.index("manifest.json.partial", names.index("train-00000.bin"))
    assert {"train-00000.bin", "valid-00000.bin", "train.idx", "valid.idx"} <= set(names[:first])
    assert folder.exists()
