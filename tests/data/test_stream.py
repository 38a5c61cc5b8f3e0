"""The streams: every token once, in an order that only the seed decides, resumable anywhere."""

import sys

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prefetch import BUFFER, best_loader, prefetched
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import EvalStream, TrainStream
from mlx_transformers.data.text_rows import TextRows, segments

LOADERS = ["none", "thread"]
if best_loader() == "mlx-data":
    LOADERS.append("mlx-data")


class Counted:
    """Tokens 0, 1, 2, …: a row shows where it was cut."""

    def __init__(self, n_tokens):
        self.n_tokens = n_tokens

    def __len__(self):
        return self.n_tokens

    def rows(self, starts, length):
        assert starts.min() >= 0
        assert starts.max() + length <= self.n_tokens
        return (starts[:, None] + np.arange(length)).astype(np.int32)


@pytest.fixture
def prepared(data):
    return prepare(data(), shard_tokens=50_000)


def stream(prepared, batch_size=4, seq_len=32, loader="none", **keys):
    of_setting = {
        key: keys.pop(key) for key in ("seed", "shuffle", "mask_documents") if key in keys
    }
    setting = BatchSetting(seq_len, **{"seed": 1, "batch_size": batch_size} | of_setting)
    return TrainStream(prepared, setting, loader=loader, **keys)


def evaluation(prepared, batch_size, seq_len, mask_documents=False, **keys):
    setting = BatchSetting(seq_len, mask_documents=mask_documents, batch_size=batch_size)
    return EvalStream(prepared, setting, **keys)


def take(batches, n):
    return [next(batches)["tokens"] for _ in range(n)]


@pytest.mark.parametrize("n_tokens", [17, 18, 31, 32, 33, 34, 47, 48, 49, 160, 161, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_predicts_every_token_once_but_for_the_ends(n_tokens, shuffle):
    rows = TextRows(Counted(n_tokens), 16, 0, shuffle)
    for epoch in range(3):
        numbers = np.arange(rows.per_epoch) + epoch * rows.per_epoch
        targets = np.sort(rows.batch(numbers, None)["tokens"][:, 1:].ravel())
        np.testing.assert_array_equal(targets, np.arange(targets[0], targets[-1] + 1))
        left_out = n_tokens - 1 - len(targets)
        assert left_out < (32 if shuffle else 16)


def test_epochs_differ_in_order_and_phase_and_seeds_differ():
    rows, other = TextRows(Counted(1000), 16, 0, True), TextRows(Counted(1000), 16, 1, True)
    orders = [rows.order(epoch) for epoch in range(8)] + [other.order(0)]
    assert len({phase for phase, _ in orders}) > 3
    assert len({order.tobytes() for _, order in orders}) == 9


def test_an_epoch_that_was_left_can_be_asked_for_again():
    rows = TextRows(Counted(1000), 16, 0, True)
    first = rows.starts(np.arange(500))
    np.testing.assert_array_equal(
        np.concatenate([rows.starts(np.array([r])) for r in range(500)]), first
    )


def test_without_shuffling_rows_come_in_the_order_of_the_text():
    batch = TextRows(Counted(100), 10, 0, False).batch(np.arange(9), None)["tokens"]
    np.testing.assert_array_equal(batch[:, 0], np.arange(0, 90, 10))
    np.testing.assert_array_equal(batch[:-1, -1], batch[1:, 0])


def test_rows_hold_the_text_that_was_prepared(prepared):
    text = prepared.tokens("train")[:]
    batches = stream(prepared)
    starts = batches.rows.rows.starts(np.arange(4))
    batch = next(batches)
    assert batch["tokens"].dtype == np.int32
    np.testing.assert_array_equal(batch["tokens"], [text[s : s + 33] for s in starts])


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_gives_the_same_batches(prepared, loader, mask):
    expected, batches = (
        stream(prepared, loader=one, mask_documents=mask) for one in ("none", loader)
    )
    for _ in range(60):
        one, two = next(expected), next(batches)
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            assert one[name].dtype == two[name].dtype == np.int32
    batches.close()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("at", [0, 1, 13, 40])
def test_a_stream_resumes_at_any_batch(prepared, loader, at):
    whole = take(stream(prepared, seq_len=512), 50)
    first = stream(prepared, seq_len=512, loader=loader)
    take(first, at)
    cursor = first.cursor
    first.close()
    second = stream(prepared, seq_len=512, loader=loader, cursor=cursor)
    np.testing.assert_array_equal(take(second, 50 - at), whole[at:])
    assert second.cursor["rows"] == 200
    second.close()


def test_regrouping_keeps_the_order_of_rows(prepared):
    rows = np.concatenate(take(stream(prepared, batch_size=12), 10))
    np.testing.assert_array_equal(np.concatenate(take(stream(prepared, batch_size=3), 40)), rows)
    half = stream(prepared, batch_size=12)
    take(half, 5)
    rest = stream(prepared, batch_size=4, cursor=half.cursor)
    np.testing.assert_array_equal(np.concatenate(take(rest, 15)), rows[60:])


def test_processes_share_each_batch(prepared):
    whole = take(stream(prepared, batch_size=6), 5)
    parts = [take(stream(prepared, batch_size=6, rank=rank, world=3), 5) for rank in range(3)]
    for number, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[number] for part in parts]), batch)
    with pytest.raises(DataError, match="can't be shared by 4"):
        stream(prepared, batch_size=6, rank=0, world=4)


@pytest.mark.parametrize("change", [{"seed": 2}, {"seq_len": 16}, {"shuffle": False}])
def test_a_cursor_of_another_stream_is_refused(prepared, change):
    cursor = stream(prepared).cursor
    with pytest.raises(DataError, match=next(iter(change))):
        stream(prepared, cursor=cursor, **change)
    with pytest.raises(DataError, match="can't be read"):
        stream(prepared, cursor={"row": 3})


def test_a_context_longer_than_the_data_is_refused(prepared):
    n_tokens = prepared.count("train")
    with pytest.raises(DataError, match=f"seq_len={n_tokens} takes {n_tokens + 1} tokens.*smaller"):
        stream(prepared, seq_len=n_tokens)
    assert next(stream(prepared, seq_len=n_tokens - 1))["tokens"].shape == (4, n_tokens)


def test_segments_number_the_documents_of_a_row():
    boundaries = np.array([0, 3, 4, 9, 20])
    found = segments(boundaries, np.array([0, 2, 3, 10]), 6)
    np.testing.assert_array_equal(
        found, [[0, 0, 0, 1, 2, 2], [0, 1, 2, 2, 2, 2], [0, 1, 1, 1, 1, 1], [0] * 6]
    )


def test_segments_change_exactly_after_the_end_of_a_document(prepared):
    batches = stream(prepared, seq_len=4000, mask_documents=True)
    seen = 0
    for _ in range(30):
        batch = next(batches)
        changes = np.diff(batch["segments"], axis=1)
        np.testing.assert_array_equal(changes, batch["tokens"][:, :-1] == 256)
        seen += changes.sum()
    assert seen > 5


def test_loader_speed_and_rows_are_counted(prepared):
    batches = stream(prepared)
    assert np.isnan(batches.tokens_per_s)
    take(batches, 3)
    assert batches.tokens_per_s > 0
    assert batches.cursor["rows"] == 12


@pytest.mark.parametrize("loader", LOADERS)
def test_an_error_while_loading_reaches_the_reader(loader):
    def make(number):
        if number == 3:
            raise DataError("the disk is gone")
        return {"tokens": np.full((1, 2), number, dtype=np.int32)}

    batches = prefetched(make, loader)
    assert [int(next(batches)["tokens"][0, 0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="the disk is gone"):
        next(batches)


@pytest.mark.skipif("mlx-data" not in LOADERS, reason="mlx-data is not installed")
def test_mlx_data_goes_on_past_its_buffer():
    batches = prefetched(lambda number: {"n": np.array([number], dtype=np.int32)}, "mlx-data")
    numbers = [int(next(batches)["n"][0]) for _ in range(BUFFER + 20)]
    assert numbers == list(range(BUFFER + 20))


def test_without_mlx_data_a_thread_loads(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx.data", None)
    monkeypatch.setattr("mlx_transformers.data.prefetch.find_spec", lambda name: None)
    assert best_loader() == "thread"


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_evaluation_predicts_every_token_once(prepared, batch_size):
    text = prepared.tokens("valid")[:]
    batches = list(evaluation(prepared, batch_size, 100))
    assert {batch["tokens"].shape for batch in batches} == {(batch_size, 101)}
    weights = np.concatenate([batch["weights"] for batch in batches]).ravel() == 1
    inputs = np.concatenate([batch["tokens"][:, :-1] for batch in batches]).ravel()[weights]
    targets = np.concatenate([batch["tokens"][:, 1:] for batch in batches]).ravel()[weights]
    np.testing.assert_array_equal(inputs, text[:-1])
    np.testing.assert_array_equal(targets, text[1:])
    assert len(evaluation(prepared, batch_size, 100)) == len(batches)


def test_evaluation_of_a_part_is_spread_over_the_split(prepared):
    n_tokens = prepared.count("valid")
    part = evaluation(prepared, 4, 100, batches=5)
    starts = part.numbers * 100
    assert len(part) == len(list(part)) == 5
    assert len(set(starts)) == 20
    assert starts[0] == 0
    assert 0.4 * n_tokens < starts.mean() < 0.6 * n_tokens
    everything = evaluation(prepared, 4, 100, batches=10**6)
    assert len(everything) == len(evaluation(prepared, 4, 100))


def test_evaluation_of_a_split_shorter_than_a_row_is_filled_up(data, tmp_path):
    (tmp_path / "short.txt").write_text("a short text of 38 characters for two ")
    prepared = prepare(data(path=str(tmp_path / "short.txt"), tokenizer={"kind": "char"}))
    (batch,) = evaluation(prepared, 2, 64)
    assert batch["weights"].sum() == prepared.count("valid") - 1
    empty = prepare(data(path=str(tmp_path / "short.txt"), valid_fraction=0.0))
    with pytest.raises(DataError, match=r"too few to evaluate.*data\.valid_fraction"):
        evaluation(empty, 2, 64)


def test_evaluation_masks_and_shares_like_training(prepared):
    whole = list(evaluation(prepared, 4, 500, mask_documents=True))
    parts = [
        list(evaluation(prepared, 4, 500, mask_documents=True, rank=rank, world=2))
        for rank in range(2)
    ]
    for number, batch in enumerate(whole):
        for name, array in batch.items():
            both = np.concatenate([part[number][name] for part in parts])
            np.testing.assert_array_equal(both, array)
        inside = batch["weights"] == 1
        changes = np.diff(batch["segments"], axis=1)
        np.testing.assert_array_equal(changes[inside], (batch["tokens"][:, :-1] == 256)[inside])
