"""Batches made of running text and noise: framing, targets, and noise that only a row decides."""

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.config import Data
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prefetch import best_loader
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import EvalStream, TrainStream

from . import records

TEXT = "".join(f"Number {n} is here. Is it {n * 7 % 13}? It may be!\n" for n in range(300))
NOISED = [
    {"kind": "mlm"},
    {"kind": "mlm", "masking": {"unit": "word"}},
    {"kind": "mlm", "masking": {"unit": "span"}, "copies": 2},
    {"kind": "sentence_pairs"},
    {"kind": "sentence_pairs", "task": "order"},
    {"kind": "span_corruption"},
    {"kind": "denoise", "permute": True, "infill": 0.3},
    {"kind": "prefix"},
]
CLS, SEP, MASK = 257, 258, 259


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.txt").write_text(TEXT[n * 300 : n * 300 + 90 + n * 5])
    return folder


@pytest.mark.parametrize("loader", ["thread", best_loader()])
def test_every_loader_gives_the_same_arrays(path, loader):
    made = records.prepared(path, {"kind": "sentence_pairs"})
    one, two = (
        TrainStream(made[0], BatchSetting(32, 3, batch_size=4), kind=made[1], loader=name)
        for name in ("none", loader)
    )
    for _ in range(12):
        a, b = next(one), next(two)
        assert same(a, b)
        assert {n: x.dtype for n, x in a.items()} == {n: x.dtype for n, x in b.items()}
    two.close()


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("batch", NOISED, ids=str)
def test_batches_are_the_same_after_a_resume_and_for_every_number_of_ranks(path, batch):
    made = records.prepared(path, batch)

    def stream(size=4, **keys):
        setting = BatchSetting(32, seed=3, batch_size=size)
        return TrainStream(made[0], setting, kind=made[1], loader="none", **keys)

    whole = stream()
    expected = [next(whole) for _ in range(5)]
    first = stream()
    next(first)
    again = stream(cursor=first.cursor)
    assert same(next(again), expected[1])
    halves = [stream(cursor=first.cursor, rank=rank, world=2) for rank in range(2)]
    both = [next(half) for half in halves]
    joined = {name: np.concatenate([half[name] for half in both]) for name in both[0]}
    assert same(joined, expected[1])
    pair = stream(size=2)
    parts = [next(pair) for _ in range(2)]
    assert same({n: np.concatenate([p[n] for p in parts]) for n in parts[0]}, expected[0])
    shapes = [{name: a.shape for name, a in b.items()} for b in expected]
    assert shapes == [shapes[0]] * 5
    assert {a.dtype.name for a in expected[0].values()} <= {"int32", "float32", "bool"}


@pytest.mark.parametrize("batch", NOISED, ids=str)
def test_an_evaluation_is_the_same_each_time_and_ends_with_what_counts_for_nothing(path, batch):
    made = records.prepared(path, batch)
    stream = EvalStream(made[0], BatchSetting(32, batch_size=32), kind=made[1])
    one, two = list(stream), list(stream)
    assert len(one) == len(stream) == len(two)
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    last = len(stream.numbers) % 32
    assert last > 0
    assert not one[-1]["weights"][last:].any()
    assert (one[-1]["weights"][:last].sum(axis=-1) > 0).all()


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_masked_rows_tell_the_text_where_it_is_hidden(path, unit):
    made = records.prepared(path, {"kind": "mlm", "masking": {"unit": unit, "share": 0.2}})
    batch = records.train(made, 34).batch(np.arange(50))
    tokens, targets, weights = batch["tokens"], batch["targets"], batch["weights"]
    assert batch["valid"].all()
    for array in (tokens, targets):
        assert (array[:, 0] == CLS).all()
        assert (array[:, -1] == SEP).all()
    hidden = weights == 1
    assert (tokens == targets)[~hidden].all()
    assert not hidden[:, [0, -1]].any()
    counts = hidden.sum(axis=1)
    assert (counts <= 6).all()
    assert (counts == 6).all() if unit != "word" else counts.mean() > 4
    assert (tokens == MASK).sum() / hidden.sum() == pytest.approx(0.8, abs=0.12)
    assert records.text(targets[0, 1:-1]) in TEXT
    there = np.take_along_axis(weights, batch["places"], axis=1)
    np.testing.assert_array_equal(there.sum(axis=1), counts)
    assert ((there == 1) | (batch["places"] == 0)).all()


def test_noise_is_new_in_each_epoch_but_for_fixed_copies(path):
    def noisy(copies, epochs):
        made = records.prepared(path, {"kind": "mlm", "copies": copies})
        rows = records.train(made, 34, shuffle=False)
        numbers = np.arange(3)
        return [rows.batch(numbers + epoch * rows.per_epoch)["tokens"] for epoch in epochs]

    one, two = noisy(None, (0, 1))
    assert (one != two).any()
    first, second, third = noisy(2, (0, 1, 2))
    assert (first != second).any()
    np.testing.assert_array_equal(first, third)


def test_fixed_copies_hide_the_same_tokens_wherever_a_window_comes_in_the_order(path):
    made = records.prepared(path, {"kind": "mlm", "copies": 1})
    rows = records.train(made, 34)

    def epoch(number):
        batch = rows.batch(np.arange(rows.per_epoch) + number * rows.per_epoch)
        both = np.concatenate([batch["targets"], batch["tokens"]], axis=1)
        return sorted(row.tobytes() for row in both)

    assert epoch(0) == epoch(1)


@pytest.mark.parametrize("task", ["next", "order"])
def test_pairs_of_parts_come_from_one_document(documents, task):
    batch = {"kind": "sentence_pairs", "task": task, "masking": {"share": 0.3}}
    made = records.prepared(documents, batch)
    rows = records.train(made, 64).batch(np.arange(200))
    texts = [path.read_text() for path in documents.iterdir()]
    found = {0: [], 1: []}
    for row in range(200):
        n = int(rows["valid"][row].sum())
        targets, types = rows["targets"][row, :n], rows["types"][row, :n]
        cuts = np.flatnonzero(targets == SEP)
        a, b = targets[1 : cuts[0]], targets[cuts[0] + 1 : cuts[1]]
        assert (types == (np.arange(n) > cuts[0])).all()
        assert not rows["types"][row, n:].any()
        assert rows["weights"][row].sum() >= 2
        parts = [records.text(part).replace("<256>", "") for part in (a, b)]
        in_order, turned = "".join(parts), "".join(reversed(parts))
        where = (any(in_order in text for text in texts), any(turned in text for text in texts))
        found[int(rows["label"][row])].append(where)
    assert 70 < len(found[1]) < 130
    as_told = [one for one, _ in found[0]]
    assert np.mean(as_told) == 1
    if task == "order":
        assert np.mean([turned for _, turned in found[1]]) == 1
    else:
        assert np.mean([one for one, _ in found[1]]) < 0.1


def test_corrupted_spans_fill_the_columns_and_undo_to_the_text(path):
    made = records.prepared(path, {"kind": "span_corruption", "sentinels": 20})
    rows = records.train(made, 64).batch(np.arange(8))
    first = made[0].tokenizer.control("sentinel_0")
    for source, tokens in zip(rows["source"], rows["tokens"], strict=True):
        assert source[-1] == tokens[-1] == 256
        assert tokens[0] == made[0].tokenizer.control("start")
        told = np.split(tokens[1:-1], np.flatnonzero(tokens[1:-1] >= first))[1:]
        spans = {int(span[0]): span[1:].tolist() for span in told}
        whole = [spans.get(token, [token]) for token in source[:-1].tolist()]
        assert records.text(np.concatenate(whole)) in TEXT
    assert rows["source_valid"].all()
    assert rows["weights"].all()


def test_rows_with_more_spans_than_sentinels_are_refused(path):
    made = records.prepared(path, {"kind": "span_corruption", "sentinels": 2})
    with pytest.raises(DataError, match=r"have 3 spans, and data.batch.sentinels is 2"):
        records.train(made, 64)


def test_a_target_of_denoising_is_the_text_and_its_source_the_noisy_text(path):
    made = records.prepared(path, {"kind": "denoise", "delete": 0.5})
    rows = records.train(made, 41).batch(np.arange(8))
    for row in range(8):
        tokens = rows["tokens"][row]
        assert tokens[-1] == 256
        assert records.text(tokens[1:-1]) in TEXT
        source = rows["source"][row][rows["source_valid"][row]]
        assert len(source) == 21
        rest = iter(tokens[1:].tolist())
        assert all(token in rest for token in source.tolist())


def test_what_follows_a_prefix_is_predicted(path):
    made = records.prepared(path, {"kind": "prefix"})
    rows = records.train(made, 16).batch(np.arange(30))
    for prefix, weights in zip(rows["prefix"], rows["weights"], strict=True):
        assert 1 <= prefix <= 16
        np.testing.assert_array_equal(weights, np.arange(1, 17) >= prefix)
    assert rows["tokens"].shape == (30, 17)


def test_control_tokens_are_kept_with_the_set_and_only_noise_may_change_without_a_new_one(path):
    one = records.table(path, {"kind": "mlm"})
    two = records.table(path, {"kind": "mlm", "masking": {"share": 0.5}, "copies": 3})
    plain = Data.model_validate(one.model_dump(exclude={"batch"}))
    folders = [prepare(data).folder for data in (one, two, plain)]
    assert folders[0] == folders[1] != folders[2]
    tokenizer, bare = prepare(one).tokenizer, prepare(plain).tokenizer
    assert (tokenizer.vocab_size, bare.vocab_size) == (260, 257)
    assert [tokenizer.control(role) for role in ("cls", "sep", "mask")] == [257, 258, 259]
    assert tokenizer.decode([257, *b"text", 259]) == "text"
    with pytest.raises(DataError, match=r"has no 'mask' token"):
        bare.control("mask")


@pytest.mark.parametrize("batch", NOISED, ids=str)
def test_its_columns_are_those_of_its_batches(path, batch):
    """What memory is planned by: tokens read, those predicted, and those of a source."""
    made = records.prepared(path, batch)
    told, arrays = made[1].columns(64), records.train(made, 64).batch(np.arange(2))
    predicts_next = "valid" not in arrays
    assert told.target == arrays["tokens"].shape[1] - predicts_next
    assert told.source == (arrays["source"].shape[1] if "source" in arrays else 0)
    places = arrays.get("places", arrays["weights"])
    assert told.n_predicted == places.shape[1]
    assert told.masked == bool(arrays.keys() & {"valid", "source_valid", "prefix"})
