"""Beam search against greedy decoding, and against trying every sequence there is."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.beam import (
    Beams,
    Search,
    best_continuations,
    best_targets,
    has_rows,
)
from mlx_transformers.recipe.slot import kind_of

from .models import decoder, eager

V, END, LIMIT = 3, 0, 4
CELL = {"kind": "gru"}
SEQ2SEQ = {
    "kind": "recurrent_seq2seq",
    "dim": 8,
    "embed": {"kind": "token"},
    "encoder": {"cell": CELL, "n_layers": 1, "bidirectional": True},
    "decoder": {"cell": CELL, "n_layers": 1},
    "align": {"kind": "additive"},
    "attend": "before",
    "head": {"kind": "lm", "tied": False},
    "init": {"kind": "normal", "std": 1.0},
}
SOURCE = mx.array([[3, 1, 4, 1], [2, 7, 1, 0], [5, 5, 0, 0]])
VALID = mx.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]) > 0


def seq2seq(vocab: int = 9, seed: int = 2) -> Any:
    mx.random.seed(seed)
    model = kind_of("model", "recurrent_seq2seq").model_validate(SEQ2SEQ).build(vocab)
    mx.eval(model.parameters())
    return model


def table(seed: int) -> np.ndarray:
    """Log-probabilities of a token after every prefix: a model that remembers everything."""
    draw = np.random.default_rng(seed).standard_normal((V**LIMIT * 2, V)) * 1.5
    return draw - np.log(np.exp(draw).sum(axis=1, keepdims=True))


def stepper(rows: np.ndarray) -> Callable[[mx.array, Any], tuple[mx.array, Any]]:
    """Its step: the state is the number that the tokens so far spell."""
    log_p = mx.array(rows.astype(np.float32))

    def step(tokens: mx.array, state: Any) -> tuple[mx.array, Any]:
        place = mx.where(state["n"] == 0, state["at"], state["at"] * V + tokens[:, 0] + 1)
        return log_p[place][:, None], {"at": place, "n": state["n"] + 1}

    return step


def best_by_trial(rows: np.ndarray, begin: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Every sequence that ends, or is cut at the limit, and its score; the best first."""
    found = []
    for n in range(1, LIMIT + 1):
        for tokens in itertools.product(range(V), repeat=n):
            if END in tokens[:-1] or (tokens[-1] != END and n < LIMIT):
                continue
            place, log_p = begin, 0.0
            for i, token in enumerate(tokens):
                place = place if i == 0 else place * V + tokens[i - 1] + 1
                log_p += rows[place, token]
            said = list(tokens[:-1]) if tokens[-1] == END else list(tokens)
            found.append((log_p / ((5 + n) / 6) ** alpha, said))
    return sorted(found, key=lambda pair: -pair[0])


def search(rows: np.ndarray, beams: Beams, begins: list[int], n_best: int) -> Any:
    def state(n: int) -> Any:
        return {"at": mx.array([begins[i % len(begins)] for i in range(n)]), "n": mx.array(0)}

    found = Search(stepper(rows), has_rows(state), END, LIMIT, beams)
    return found.run(mx.zeros((len(begins),), mx.int32), state(len(begins)), n_best)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_beams_enough_for_all_find_the_best_sequences_there_are(seed: int, alpha: float) -> None:
    rows, begins = table(seed), [0, 1]
    found = search(rows, Beams(n=27, alpha=alpha), begins, n_best=5)
    for row, begin in zip(found, begins, strict=True):
        expected = best_by_trial(rows, begin, alpha)[:5]
        assert [h.tokens for h in row] == [tokens for _, tokens in expected]
        np.testing.assert_allclose([h.score for h in row], [s for s, _ in expected], rtol=1e-5)


def test_more_beams_find_better_sequences_than_greedy_decoding() -> None:
    better = 0
    for seed in range(8):
        one, many = (search(table(seed), Beams(n, 0.0), [0], 1)[0][0] for n in (1, 9))
        assert many.score >= one.score - 1e-6
        better += many.score > one.score + 1e-6
    assert better > 0


def greedy(model: Any, source: mx.array, valid: mx.array, limit: int) -> list[list[int]]:
    """By the definition: the whole target anew for each token."""
    rows = []
    for i in range(source.shape[0]):
        said: list[int] = []
        while len(said) < limit:
            ctx = Context(memory_valid=valid[i : i + 1])
            logits = model(source[i : i + 1], mx.array([[1, *said]]), ctx)
            token = int(logits[0, -1].argmax())
            if token == END:
                break
            said.append(token)
        rows.append(said)
    return rows


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_one_beam_is_greedy_decoding(seed: int) -> None:
    model = seq2seq(seed=seed)
    keys = {"start": 1, "end": END, "limit": 7}
    found = best_targets(model, SOURCE, VALID, beams=Beams(1, 0.0), **keys)
    assert [row[0].tokens for row in found] == greedy(model, SOURCE, VALID, 7)


@pytest.mark.parametrize("window", [None, 5], ids=["full", "window"])
def test_one_beam_after_a_prompt_is_greedy_decoding(window: int | None) -> None:
    model, prompt, said = decoder(window=window), [3, 1, 4, 1, 5], []
    while len(said) < 12:
        token = int(model(mx.array([prompt + said]))[0, -1].argmax())
        if token == END:
            break
        said.append(token)
    (found,) = best_continuations(model, prompt, end=END, limit=12, beams=Beams(1, 0.0))
    assert found.tokens == said


def log_prob(model: Any, prompt: list[int], tokens: list[int]) -> float:
    logits = model(mx.array([prompt + tokens[:-1]]))[0, len(prompt) - 1 :]
    log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return sum(float(log_p[i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_scores_are_log_probabilities_over_the_penalty_and_all_differ(alpha: float) -> None:
    model, prompt = decoder(window=6), [3, 1, 4]
    beams = Beams(5, alpha)
    found = best_continuations(model, prompt, end=END, limit=8, beams=beams, n_best=5)
    assert len({tuple(h.tokens) for h in found}) == 5
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for h in found:
        whole = h.tokens + [END] * h.ended
        expected = log_prob(model, prompt, whole) / ((5 + len(whole)) / 6) ** alpha
        assert h.score == pytest.approx(expected, rel=1e-4)


@pytest.mark.compiled
def test_a_compiled_search_finds_what_an_eager_one_does() -> None:
    model, keys = decoder(), {"end": END, "limit": 6, "beams": Beams(3), "n_best": 2}
    compiled = best_continuations(model, [3, 1, 4], **keys)
    with eager():
        expected = best_continuations(model, [3, 1, 4], **keys)
    assert [h.tokens for h in compiled] == [h.tokens for h in expected]


def test_rows_are_searched_independently() -> None:
    model, keys = seq2seq(), {"start": 1, "end": END, "limit": 6, "beams": Beams(3)}
    together = best_targets(model, SOURCE, VALID, **keys)
    for i in range(3):
        alone = best_targets(model, SOURCE[i : i + 1], VALID[i : i + 1], **keys)
        assert alone[0][0].tokens == together[i][0].tokens


def test_a_penalty_for_length_makes_sequences_longer() -> None:
    def total(alpha: float) -> int:
        return sum(len(search(table(s), Beams(9, alpha), [0], 1)[0][0].tokens) for s in range(12))

    assert total(0.0) < total(1.0) < total(3.0)


def test_an_early_end_takes_the_first_sequences_that_end() -> None:
    # The end is likely at once, and likelier still later: what waits is better by its length.
    rows = np.full((V**LIMIT * 2, V), math.log(1e-3))
    rows[0] = np.log([0.4, 0.5, 0.1])
    rows[2] = np.log([0.9, 0.05, 0.05])
    early, late = (search(rows, Beams(1, 3.0, early), [0], 1)[0][0] for early in (True, False))
    assert early.tokens == late.tokens == [1]
    both = [search(rows, Beams(2, 3.0, early), [0], 1)[0][0].score for early in (True, False)]
    assert both[0] <= both[1]


def test_positions_and_offsets_are_shared_and_keys_are_not() -> None:
    model = decoder(window=4)
    rows = has_rows(lambda n: model.init_state(n, 10, mx.float32))
    assert rows["offset"] is False
    block = rows["blocks"][0]
    flat = dict(tree_flatten(block))
    assert {name.rpartition(".")[2]: value for name, value in flat.items()} == {
        "k": True,
        "v": True,
        "pos": False,
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Beams(n=0), "beams = 0 is out of range"),
        (lambda: Beams(alpha=-1.0), r"alpha = -1\.0 is out of range"),
        (lambda: search(table(0), Beams(2), [0], 3), "ask for 1 to 2"),
        (lambda: Search(stepper(table(0)), {}, END, 0, Beams()), "leaves nothing to search"),
    ],
)
def test_options_out_of_range_are_errors(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        make()
