"""Pairs: what a row holds, how it is padded, and in what order rows come."""

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.order import BLOCK, Order
from mlx_transformers.data.stream import EvalStream, TrainStream

from . import records

PAIRS = [{"source": "a" * (1 + n % 9), "target": f"{n}"} for n in range(400)]
START, END = 257, 256


@pytest.fixture
def path(tmp_path):
    return records.write(tmp_path, PAIRS)


def test_a_row_is_the_source_with_its_end_and_the_target_between_start_and_end(path):
    made = records.prepared(path, {"kind": "pairs"})
    batch = records.train(made, 16).batch(np.arange(5))
    assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
        "source": ((5, 16), "int32"),
        "source_valid": ((5, 16), "bool"),
        "tokens": ((5, 17), "int32"),
        "weights": ((5, 16), "float32"),
    }
    for source, valid, tokens, weights in zip(*batch.values(), strict=True):
        n, m = int(valid.sum()), int(weights.sum())
        assert valid[:n].all()
        assert weights[:m].all()
        assert source[n - 1] == END
        assert tokens[0] == START
        assert tokens[m] == END
        assert not source[n:].any()
        assert not tokens[m + 1 :].any()
        target = int(records.text(tokens[1:m]))
        assert records.text(source[: n - 1]) == PAIRS[target]["source"]


def test_an_epoch_has_every_pair_once_and_validation_the_others(path):
    made = records.prepared(path, {"kind": "pairs"})

    def targets(rows, numbers):
        batch = rows.batch(numbers)
        ends = batch["weights"].sum(axis=1).astype(int)
        return [int(records.text(t[1:n])) for t, n in zip(batch["tokens"], ends, strict=True)]

    train, valid = records.train(made, 16), records.held_out(made, 16)
    first = targets(train, np.arange(train.per_epoch))
    second = targets(train, np.arange(train.per_epoch) + train.per_epoch)
    assert first != second
    assert sorted(first) == sorted(second)
    assert sorted(first + targets(valid, np.arange(valid.per_epoch))) == list(range(400))


def test_a_long_source_or_target_is_cut_and_keeps_its_end(tmp_path):
    path = records.write(tmp_path, [{"source": "abcdefghij", "target": "0123456789"}] * 3)
    made = records.prepared(path, {"kind": "pairs"}, valid_fraction=0.0)
    batch = records.train(made, 6).batch(np.arange(1))
    assert records.text(batch["source"][0]) == "abcde<256>"
    assert records.text(batch["tokens"][0]) == "<257>01234<256>"


def test_a_target_may_have_fewer_columns_than_its_source(tmp_path):
    path = records.write(tmp_path, [{"source": "abcdefghij", "target": "0123456789"}] * 3)
    batch = {"kind": "pairs", "lengths": [3, 8, 12], "target_len": 5}
    made = records.prepared(path, batch, valid_fraction=0.0)
    row = records.train(made, 12).batch(np.arange(1))
    assert records.text(row["source"][0, :11]) == "abcdefghij<256>"
    assert records.text(row["tokens"][0]) == "<257>0123<256>"
    assert row["weights"].shape == (1, 5)
    planned = made[1].columns(12)
    assert (planned.target, planned.n_predicted, planned.source) == (5, 5, 12)
    made = records.prepared(path, batch | {"lengths": [5]}, valid_fraction=0.0)
    with pytest.raises(DataError, match=r"target_len = 5 shortens nothing where train.seq_len = 5"):
        records.train(made, 5)


def test_options_of_the_source_and_the_start(tmp_path):
    path = records.write(tmp_path, [{"fr": "chat", "en": "cat"}] * 3)
    batch = {"kind": "pairs", "source_key": "fr", "target_key": "en", "start": "end"}
    made = records.prepared(
        path, batch | {"prefix": "to English: ", "reverse_source": True}, valid_fraction=0.0
    )
    row = records.train(made, 20).batch(np.arange(1))
    assert records.text(row["source"][0, :17]) == "tahc :hsilgnE ot<256>"
    assert row["tokens"][0, 0] == END
    assert made[0].tokenizer.vocab_size == 257


def test_batches_have_the_least_declared_width_and_like_lengths_come_together(path):
    made = records.prepared(path, {"kind": "pairs", "lengths": [5, 8, 12]}, valid_fraction=0.0)
    stream = TrainStream(made[0], BatchSetting(12, batch_size=16), kind=made[1], loader="none")
    assert stream.shapes == 3
    widths = []
    for _ in range(20):
        batch = next(stream)
        need = max(batch["source_valid"].sum(1).max(), int(batch["weights"].sum(1).max()))
        width = batch["source"].shape[1]
        assert width == min(w for w in (5, 8, 12) if w >= need)
        assert batch["tokens"].shape[1] == width + 1
        widths.append(width)
    assert set(widths) == {5, 8, 12}
    assert widths.count(5) >= 6


def test_blocks_of_like_size_still_hold_every_place_once():
    sizes = np.random.default_rng(0).integers(0, 3, 10_000)
    order = Order(10_000, 0, sizes=sizes).order(0)
    np.testing.assert_array_equal(np.sort(order), np.arange(10_000))
    blocks = sizes[order][: 10_000 // BLOCK * BLOCK].reshape(-1, BLOCK)
    assert np.mean(blocks.min(axis=1) == blocks.max(axis=1)) > 0.9


@pytest.mark.parametrize("at", [1, 7])
def test_a_stream_of_pairs_resumes_and_is_shared_between_ranks(path, at):
    made = records.prepared(path, {"kind": "pairs"})

    def stream(**keys):
        setting = BatchSetting(16, seed=5, batch_size=8)
        return TrainStream(made[0], setting, kind=made[1], loader="none", **keys)

    whole = stream()
    for _ in range(at):
        next(whole)
    expected, cursor = [next(whole) for _ in range(3)], None
    first = stream()
    for _ in range(at):
        next(first)
    cursor = first.cursor
    parts = [stream(cursor=cursor, rank=rank, world=2) for rank in range(2)]
    for batch in expected:
        halves = [next(part) for part in parts]
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), array)


def test_evaluation_counts_every_pair_once_and_its_filler_not_at_all(path):
    made = records.prepared(path, {"kind": "pairs"})
    stream = EvalStream(made[0], BatchSetting(16, batch_size=32), kind=made[1])
    batches = list(stream)
    n = made[0].count("valid", "documents") // 2
    assert sum(int((b["weights"].sum(axis=1) > 0).sum()) for b in batches) == n
    assert all(b["source_valid"].any(axis=1).all() for b in batches)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"source": "a", "targt": "b"}, r"records.jsonl:1: no field 'target'.*'targt'"),
        ({"source": "a", "target": 3}, r"records.jsonl:1: the field 'target' is no text but 3"),
    ],
)
def test_a_record_that_lacks_a_field_is_named(tmp_path, record, message):
    path = records.write(tmp_path, [record])
    with pytest.raises(DataError, match=message):
        records.prepared(path, {"kind": "pairs"})


def test_running_text_makes_no_pairs(tmp_path):
    (tmp_path / "text.txt").write_text("some text")
    with pytest.raises(DataError, match=r"records come from \.jsonl"):
        records.prepared(tmp_path / "text.txt", {"kind": "pairs"})


def test_tables_with_tabs_are_records_too(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("target\tsource\nb\ta\nd\tc\n")
    made = records.prepared(path, {"kind": "pairs"}, valid_fraction=0.0)
    rows = records.train(made, 4, shuffle=False).batch(np.arange(2))
    assert [records.text(r[:1]) for r in rows["source"]] == ["a", "c"]
    path.write_text("target\tsource\nb\ta\td\n")
    with pytest.raises(DataError, match=r"pairs.tsv:2: 3 fields, and the first line names 2"):
        records.prepared(path, {"kind": "pairs"}, valid_fraction=0.0)


def test_widths_have_to_end_with_the_length_of_a_row(path):
    made = records.prepared(path, {"kind": "pairs", "lengths": [4, 8]})
    with pytest.raises(DataError, match=r"ends with 8, and train.seq_len = 16"):
        records.train(made, 16)
