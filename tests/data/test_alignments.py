"""Alignments: families sampled from Potts models, the rows made of them, and their contacts."""

import numpy as np
import pytest

from mlx_transformers.assembly import registry  # noqa: F401  (fills the slots)
from mlx_transformers.core.errors import DataError
from mlx_transformers.data.batches.alignments import Alignments
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora.potts import LETTERS, Potts, gibbs
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.pieces import Piece
from mlx_transformers.data.prepare import prepare
from mlx_transformers.score.contacts import corrected_information, mutual_information, precision

SETTINGS = {"n_examples": 20, "length": 12, "n_sequences": 60, "sweeps": 8, "coupling": 1.5}


def letters_of(row):
    return np.array([[LETTERS.index(letter) for letter in line] for line in row["text"].split()])


def test_families_are_chains_in_a_lattice_whose_contacts_their_columns_tell():
    found = []
    for row in Potts(SETTINGS).records:
        distances, letters = np.array(row["distances"]), letters_of(row)
        assert letters.shape == (60, 12)
        assert (np.diagonal(distances, 1) == 1).all()
        assert (distances[~np.eye(12, dtype=bool)] >= 1).all()
        apart = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
        contacts, counted = distances == 1, apart >= 3
        chance = contacts[counted].mean()
        found.append((precision(corrected_information(letters, 8), contacts, counted), chance))
    told, chance = np.mean(found, axis=0)
    assert told > 0.8
    assert chance < 0.3


def test_sampled_letters_have_the_probabilities_of_the_model():
    rng = np.random.default_rng(0)
    fields, coupling = rng.standard_normal((2, 3)), rng.standard_normal((1, 3, 3))
    joint = np.exp(fields[0][:, None] + fields[1][None] + coupling[0])
    sampled = gibbs(fields, np.array([[0, 1]]), coupling, 20000, 8, rng)
    seen = np.histogram2d(*sampled.T, bins=np.arange(4))[0] / len(sampled)
    assert np.abs(seen - joint / joint.sum()).max() < 0.02


def test_mutual_information_is_that_of_the_joint_distribution():
    same, mixed = np.array([[0, 0], [1, 1]] * 500), np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 250)
    smoothed = np.array([[5, 1], [1, 5]]) / 12
    expected = (smoothed * np.log(smoothed * 4)).sum()
    assert mutual_information(same, 2)[0, 1] == pytest.approx(expected)
    assert mutual_information(mixed, 2)[0, 1] == pytest.approx(0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    table = {
        "corpus": "potts",
        "settings": SETTINGS | {"n_sequences": 5, "sweeps": 2},
        "tokenizer": {"kind": "char"},
        "batch": {"kind": "alignments", "length": 8, "bins": [1.2, 2.3], "separation": 3},
        "valid_fraction": 0.3,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXT_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = Data.model_validate(table)
        return data, prepare(data)


def test_rows_are_crops_with_the_first_sequence_and_the_bins_of_its_pairs(prepared):
    data, ready = prepared
    rows = data.batch.train(ready, BatchSetting(seq_len=32, seed=0)).batch(np.arange(12))
    records = {}
    for row in Potts(data.settings).records:
        records |= {row["text"].split()[0][i : i + 8]: (row, i) for i in range(5)}
    crops = set()
    for i in range(12):
        shown = rows["letters"][i].reshape(4, 8)
        row, at = records[ready.tokenizer.decode(shown[0])]
        crops.add(at)
        lines = {line[at : at + 8] for line in row["text"].split()}
        assert all(ready.tokenizer.decode(one) in lines for one in shown)
        distances = np.array(row["distances"])[at : at + 8, at : at + 8]
        expected = (distances > 1.2).astype(int) + (distances > 2.3)
        assert (rows["pairs"][i].reshape(8, 8) == expected).all()
        changed = rows["tokens"][i] != rows["letters"][i]
        assert (rows["masked"][i][changed] == 1).all()
    assert len(crops) > 1
    counted = rows["pair_weights"][0].reshape(8, 8)
    assert (counted == (np.abs(np.subtract.outer(np.arange(8), np.arange(8))) >= 3)).all()


def test_missing_sequences_and_residues_are_padding(prepared):
    data, ready = prepared
    kind = data.batch.model_copy(update={"length": 16})
    (row,) = (kind.held_out(ready, "valid", BatchSetting(seq_len=96, seed=0)).batch(np.arange(1)),)
    valid = row["valid"].reshape(6, 16)
    assert valid[:5, :12].all()
    assert valid.sum() == 60
    assert (row["masked"] <= row["valid"]).all()
    weights = row["pair_weights"].reshape(16, 16)
    assert weights[12:].sum() == weights[:, 12:].sum() == 0


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": "ACA\nAC", "distances": []}, "sequences of one length"),
        ({"text": "AC\nCA", "distances": [[0, 1]]}, "no list of 2 lists of 2 numbers"),
        ({"text": "AC\nCA", "distances": "far"}, "no list of 2 lists"),
        ({"text": "AC"}, "no field 'distances'"),
        ({"text": "", "distances": []}, "sequences of one length"),
    ],
)
def test_records_that_are_no_alignments_are_named(record, told):
    with pytest.raises(DataError, match=f"families.jsonl, line 3.*{told}"):
        Alignments(length=8).accept(Piece("", where="families.jsonl, line 3", record=record))


@pytest.mark.parametrize(
    ("table", "told"),
    [({"bins": [3.0, 2.0]}, "must ascend"), ({"length": 4}, "leaves no pair of length = 4")],
)
def test_settings_that_leave_nothing_to_learn_are_refused(table, told):
    with pytest.raises(ValueError, match=told):
        Alignments.model_validate({"length": 8} | table)


def test_rows_that_are_no_whole_alignments_are_refused(prepared):
    data, ready = prepared
    with pytest.raises(DataError, match=r"seq_len = 30 is no whole number .* such as 24"):
        data.batch.train(ready, BatchSetting(seq_len=30, seed=0))
