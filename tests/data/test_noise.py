"""Noise: each against what its paper says, without a model."""

import numpy as np
import pytest

from mlx_transformers.data.noise.denoising import (
    document_rotation,
    sentence_permutation,
    text_infilling,
    token_deletion,
    token_masking,
)
from mlx_transformers.data.noise.masking import (
    budget,
    chosen_spans,
    chosen_tokens,
    chosen_words,
    replaced,
)
from mlx_transformers.data.noise.prefix import prefix_length
from mlx_transformers.data.noise.sentence_pairs import border, longest_document, paired
from mlx_transformers.data.noise.span_corruption import (
    corrupted,
    lengths_for,
    noise_mask,
    partition,
    span_counts,
)
from mlx_transformers.data.noise.words import sentence_table, sentences, word_ids, word_tables
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece

MASK = 5000
TEXT = 'The cat\'s "green" hat. It is 3 years old! Is it?\nYes, it is.'


def rng(seed=0):
    return np.random.default_rng(seed)


def is_subsequence(part, whole):
    rest = iter(whole.tolist())
    return all(any(token == other for other in rest) for token in part.tolist())


def runs(chosen):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return np.diff(edges)[::2]


class Words:
    """A byte text and where its words are."""

    tokenizer = ByteTokenizer()
    tokens = np.frombuffer((TEXT * 20).encode(), np.uint8).astype(np.int32)
    tables = word_tables(tokenizer)


@pytest.mark.parametrize(("n", "share"), [(1, 0.15), (3, 0.15), (126, 0.15), (1000, 0.4)])
def test_the_share_of_tokens_is_chosen_exactly_and_every_place_as_likely(n, share):
    found = np.stack([chosen_tokens(n, share, rng(seed)) for seed in range(400)])
    assert (found.sum(axis=1) == max(1, round(n * share))).all()
    assert abs(found.mean(axis=0) - found.mean()).max() < 0.12


def test_of_the_chosen_eighty_percent_are_masks_ten_random_and_ten_themselves():
    tokens = np.full(100_000, 7)
    chosen = chosen_tokens(100_000, 0.5, rng(1))
    given = replaced(tokens, chosen, MASK, 50, rng(2))
    assert (given[~chosen] == 7).all()
    shares = [np.mean(given[chosen] == value) for value in (MASK, 7)]
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 50], abs=0.01)
    random = given[chosen & (given != MASK) & (given != 7)]
    assert set(random) == set(range(50)) - {7}


def test_whole_words_are_hidden_and_no_more_than_the_share():
    ids = word_ids(Words.tokens, Words.tables)
    words = {bytes(Words.tokens[ids == word].astype(np.uint8)) for word in range(ids[-1] + 1)}
    assert {b"The", b" cat's", b"green", b'"', b".", b" 3", b"?", b"\n", b"Yes"} <= words
    for seed in range(20):
        chosen = chosen_words(Words.tokens, Words.tables, 0.15, rng(seed))
        for word in range(ids[-1] + 1):
            assert chosen[ids == word].all() == chosen[ids == word].any()
        assert 0 <= budget(len(chosen), 0.15) - chosen.sum() < 9


def test_pieces_of_a_word_are_one_word():
    texts = ["the unbelievable bottle of the unbeliever is believable " * 30]
    tokenizer = SentencePiece(vocab_size=290).build(texts)
    tokens = np.array(tokenizer.encode("unbelievable bottle"))
    ids = word_ids(tokens, word_tables(tokenizer))
    assert len(tokens) > 3
    groups = [tokenizer.decode(tokens[ids == word]) for word in range(ids[-1] + 1)]
    assert [group.strip() for group in groups if group.strip()] == ["unbelievable", "bottle"]


def test_spans_are_of_whole_words_with_clipped_geometric_lengths():
    """Few of them in a long text, where two seldom touch: a word is two tokens here."""
    tokens = np.frombuffer(b" a b c d e f g h i j" * 500, np.uint8)
    draws = []
    for seed in range(2000):
        chosen = chosen_spans(tokens, Words.tables, 0.004, rng(seed))
        assert chosen.sum() == budget(len(tokens), 0.004)
        starts = np.flatnonzero(np.diff(np.append(0, chosen)) == 1)
        assert (starts % 2 == 0).all()
        draws.append(runs(chosen)[0] / 2)
    odds = 0.2 * 0.8 ** np.arange(10)
    odds /= odds.sum()
    found = [np.mean(np.array(draws) == length) for length in range(1, 11)]
    np.testing.assert_allclose(found, odds, atol=0.04)
    assert np.mean(np.array(draws) > 10) < 0.01


def test_a_span_is_replaced_as_a_whole():
    tokens, chosen = np.full(9000, 7), np.arange(9000) % 9 < 4
    given = replaced(tokens, chosen, MASK, 50, rng(), together=True)
    spans = (given == MASK).reshape(-1, 9)[:, :4]
    assert (spans.all(axis=1) == spans.any(axis=1)).all()
    assert spans.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [(512, (568, 114)), (114, (125, 26))],
)
def test_windows_have_the_length_that_t5_computes(inputs, expected):
    """568 and 114 are what T5's `random_spans_helper` gives for 512 inputs."""
    length, target = lengths_for(inputs, 0.15, 3.0)
    noise, spans = span_counts(length, 0.15, 3.0)
    assert length - noise + spans + 1 <= inputs
    assert noise + spans + 1 == target
    if inputs == 512:
        assert (length, target) == expected


@pytest.mark.parametrize("n", [2, 3, 10, 57, 568])
@pytest.mark.parametrize("density", [0.15, 0.5])
@pytest.mark.parametrize("mean_span", [1.0, 3.0, 8.0])
def test_source_and_target_together_are_the_text(n, density, mean_span):
    tokens, sentinels = np.arange(100, 100 + n), np.arange(2000, 2600)
    source, target = corrupted(tokens, density, mean_span, sentinels, rng(n))
    noise, spans = span_counts(n, density, mean_span)
    assert len(source) == n - noise + spans
    assert len(target) == noise + spans
    marks = [token for token in source.tolist() if token >= 2000]
    assert marks == list(range(2000, 2000 + spans))
    told = {int(part[0]): part[1:] for part in np.split(target, np.flatnonzero(target >= 2000))[1:]}
    back = [told[t] if t >= 2000 else [t] for t in source.tolist()]
    np.testing.assert_array_equal(np.concatenate(back), tokens)


def test_more_spans_than_sentinels_are_an_error():
    with pytest.raises(ValueError, match="5 spans need as many sentinels, and there are 2"):
        corrupted(np.arange(100), 0.15, 3.0, [1, 2], rng())


def test_spans_begin_with_what_stays_and_are_cut_every_way_as_often():
    masks = np.stack([noise_mask(12, 0.34, 2.0, rng(seed)) for seed in range(3000)])
    assert not masks[:, 0].any()
    assert masks[:, -1].all()
    assert (masks.sum(axis=1) == 4).all()
    cuts = np.stack([partition(5, 3, rng(seed)) for seed in range(3000)])
    assert (cuts.sum(axis=1) == 5).all()
    kinds, counts = np.unique(cuts, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert counts.min() > 400


def test_bart_masks_and_deletes_a_share():
    tokens = np.arange(100)
    masked = token_masking(tokens, 0.3, MASK, rng())
    assert (masked == MASK).sum() == 30
    np.testing.assert_array_equal(masked[masked != MASK], tokens[masked != MASK])
    left = token_deletion(tokens, 0.3, rng())
    assert len(left) == 70
    assert is_subsequence(left, tokens)


def test_bart_infills_spans_of_poisson_length_with_one_mask_each():
    tokens, n_masks, n_inserted = np.arange(1000), 0, 0
    for seed in range(100):
        out = text_infilling(tokens, 0.3, 3.0, MASK, rng(seed))
        kept = out[out != MASK]
        assert len(kept) == 700
        assert is_subsequence(kept, tokens)
        places = np.flatnonzero(out == MASK)
        assert (np.diff(places) > 1).all()
        n_masks += len(places)
        around = np.stack([np.append(-1, out)[places], np.append(out, 1000)[places + 1]])
        n_inserted += int((np.diff(around, axis=0) == 1).sum())
    assert 300 * 100 / n_masks == pytest.approx(3.0, abs=0.1)
    assert n_inserted / n_masks == pytest.approx(np.exp(-3), abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_infilling_a_short_text_loses_no_more_than_its_share(n, share):
    for seed in range(50):
        out = text_infilling(np.arange(n), share, 0.5, MASK, rng(seed))
        assert (out != MASK).sum() >= n - round(n * share)
        assert is_subsequence(out[out != MASK], np.arange(n))


def test_sentences_end_at_marks_and_line_ends_and_are_permuted_whole():
    table = sentence_table(Words.tokenizer)
    tokens = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
    parts = sentences(tokens, table)
    assert [bytes(part.astype(np.uint8)).decode() for part in parts] == [
        'The cat\'s "green" hat.',
        " It is 3 years old!",
        " Is it?\n",
        "Yes, it is.",
    ]
    orders = {
        tuple(part.tobytes() for part in sentence_permutation(parts, rng(seed)))
        for seed in range(300)
    }
    assert len(orders) == 24
    assert all(sorted(order) == sorted(part.tobytes() for part in parts) for order in orders)


def test_rotation_keeps_the_circle_and_starts_anywhere():
    turned = [document_rotation(np.arange(6), rng(seed)) for seed in range(200)]
    assert {int(t[0]) for t in turned} == set(range(6))
    assert all((np.diff(t) % 6 == 1).all() for t in turned)


def test_a_prefix_ends_anywhere_but_leaves_something_to_predict():
    assert {prefix_length(5, rng(seed)) for seed in range(200)} == {1, 2, 3, 4}


def test_two_parts_are_cut_after_a_sentence_if_there_is_one():
    table = sentence_table(Words.tokenizer)
    tokens = np.frombuffer(b"One. Two. Three", np.uint8).astype(np.int32)
    assert {border(tokens, table, rng(seed)) for seed in range(50)} == {4, 9}
    assert {border(tokens[:3], table, rng(seed)) for seed in range(50)} == {1, 2}


def test_the_longest_document_of_a_window():
    boundaries = np.array([0, 10, 13, 30])
    assert longest_document(boundaries, 8, 10) == slice(5, 10)
    assert longest_document(boundaries, 13, 10) == slice(0, 10)
    assert longest_document(boundaries, 0, 12) == slice(0, 10)


@pytest.mark.parametrize("task", ["next", "order"])
def test_half_of_the_pairs_are_not_as_in_the_text(task):
    a, b, other = np.array([1]), np.array([2]), np.array([3])
    found = [paired(a, b, other, task, rng(seed)) for seed in range(1000)]
    kinds = {(int(x[0]), int(y[0]), label) for x, y, label in found}
    assert kinds == {(1, 2, 0), (1, 3, 1) if task == "next" else (2, 1, 1)}
    assert np.mean([label for *_, label in found]) == pytest.approx(0.5, abs=0.05)
