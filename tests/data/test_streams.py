"""Streams: row b of a batch goes on where row b of the one before ended."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.streams import Streams
from mlx_transformers.data.kinds import BatchSetting

from .test_stream import Counted


def rows(n_tokens, batch_size=3, seq_len=4, boundaries=None, **keys):
    prepared = SimpleNamespace(
        tokens=lambda split: Counted(n_tokens), boundaries=lambda split: np.array(boundaries)
    )
    setting = BatchSetting(seq_len, 0, batch_size=batch_size, **keys)
    return Streams().train(prepared, setting)


def batches(made, n):
    B = made.streams
    return [made.batch(np.arange(i * B, (i + 1) * B)) for i in range(n)]


@pytest.mark.parametrize("n_tokens", [13, 24, 25, 26, 36, 37, 100])
def test_every_row_goes_on_where_its_stream_ended_until_the_epoch_does(n_tokens):
    made = rows(n_tokens)
    n = made.per_epoch // 3
    for epoch in range(3):
        found = batches(made, 3 * n)[epoch * n : (epoch + 1) * n]
        assert found[0]["starts"].all()
        for before, after in pairwise(found):
            assert not after["starts"].any()
            np.testing.assert_array_equal(after["tokens"][:, 0], before["tokens"][:, -1])


@pytest.mark.parametrize("n_tokens", [13, 25, 36, 37, 100])
def test_an_epoch_predicts_every_token_at_most_once_and_leaves_little_out(n_tokens):
    made = rows(n_tokens)
    found = batches(made, made.per_epoch // 3)
    targets = np.sort(np.concatenate([b["tokens"][:, 1:].ravel() for b in found]))
    assert len(np.unique(targets)) == len(targets)
    assert n_tokens - 1 - len(targets) < 3 * 4


def test_epochs_begin_elsewhere_unless_told_not_to():
    made, still = rows(1000), rows(1000, shuffle=False)

    def firsts(made):
        numbers = np.arange(30) * made.per_epoch
        return {int(made.batch(numbers[i : i + 1])["tokens"][0, 0]) for i in range(30)}

    assert len(firsts(made)) > 1
    assert firsts(still) == {0}


def test_a_row_that_begins_a_document_starts_anew():
    made = rows(100, mask_documents=True, shuffle=False, boundaries=[0, 36, 38, 72])
    first, second, *_ = batches(made, 8)
    assert first["starts"].all()
    assert second["starts"].tolist() == [0, 1, 0]
    at = [b["tokens"][:, 0] for b in batches(made, 8)]
    starts = np.concatenate([b["starts"] for b in batches(made, 8)])
    expected = np.isin(np.concatenate(at), [0, 36, 72, 32, 64])
    np.testing.assert_array_equal(starts, expected)
    np.testing.assert_array_equal(first["segments"][1], [0, 0, 0, 0, 1])


def test_streams_longer_than_the_text_are_an_error():
    with pytest.raises(DataError, match=r"3 streams of rows of train\.seq_len=4 need 13 tokens"):
        rows(12)
