"""Tokens of the engine are those of the model's whole forward pass, from one traced step."""

from functools import cache
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from mlx_transformers.core.errors import RunError
from mlx_transformers.decode import engine as module
from mlx_transformers.decode.engine import Engine, slots
from mlx_transformers.decode.sample import Sampling

from .models import (
    BATCHED,
    DECODERS,
    LONGROPE,
    ROPE,
    VOCAB,
    Script,
    decoder,
    eager,
)

PROMPT = [3, 14, 15, 9, 26, 5]
GREEDY = Sampling(temp=0)
DRAWN = Sampling(temp=0.9, top_p=0.95, repetition_penalty=1.2, repetition_window=8)


def started(model: Any, *prompts: list[int], seed: int = 0, **options: Any) -> Engine:
    engine = Engine(model, **options)
    engine.start(prompts, range(seed, seed + len(prompts)))
    return engine


def continued(model: Any, prompt: list[int], n: int, **options: Any) -> list[list[int]]:
    return list(started(model, prompt, **options).tokens(n))


def by_whole_passes(model: object, prompt: list[int], n: int) -> list[list[int]]:
    """The most probable token after all tokens so far, read anew each time."""
    tokens = list(prompt)
    for _ in range(n):
        logits = model(mx.array([tokens]))  # type: ignore[operator]
        tokens.append(int(logits[0, -1].argmax()))
    return [[token] for token in tokens[len(prompt) :]]


@cache
def shared(name: str) -> Any:
    """The model of a name, and its 40 most probable tokens after the prompt by whole passes."""
    model = decoder(**DECODERS[name])
    return model, by_whole_passes(model, PROMPT, 40)


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_tokens_are_those_of_whole_passes(name: str) -> None:
    model, expected = shared(name)
    assert len({token for (token,) in expected}) > 8, "a model that repeats itself tests nothing"
    assert continued(model, PROMPT, 40, sampling=GREEDY) == expected


def test_what_is_not_read_anew_keeps_its_first_keys() -> None:
    model = decoder(position=ROPE | {"scaling": LONGROPE | {"reread": False}})
    state, tokens, expected = model.init_state(1, 96), mx.array([PROMPT]), []
    for _ in range(60):
        logits, state = model.step(tokens, state)
        tokens = mx.argmax(logits[:, -1:], axis=-1)
        expected.append([tokens.item()])
    assert continued(model, PROMPT, 60, sampling=GREEDY) == expected
    assert by_whole_passes(model, PROMPT, 60) != expected


@pytest.mark.parametrize("name", DECODERS)
def test_reading_a_prompt_in_chunks_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = shared(name)
    prompt = [(7 * i * i) % VOCAB for i in range(40)]
    expected = by_whole_passes(model, prompt, 10)
    for chunk in (1, 16, 64):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert continued(model, prompt, 10, sampling=GREEDY) == expected


@pytest.mark.parametrize("name", DECODERS)
def test_a_state_that_grows_keeps_what_it_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, expected = shared(name)
    monkeypatch.setattr(module, "SLOTS", 4)
    engine = started(model, PROMPT, sampling=GREEDY)
    assert list(engine.tokens(40)) == expected


@pytest.mark.compiled
def test_a_generation_is_traced_once_and_once_more_when_it_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = decoder()
    engine = started(model, PROMPT, sampling=DRAWN)
    assert len(list(engine.tokens(80))) == 80
    assert len(engine.traces) == 1
    monkeypatch.setattr(module, "SLOTS", 32)
    growing = started(model, PROMPT, sampling=DRAWN)
    assert len(list(growing.tokens(80))) == 80
    assert len(growing.traces) == 3, "32 slots, then 64, then the context of 96"


def test_slots_double_up_to_the_context() -> None:
    assert [slots(n, 1000) for n in (1, 256, 257, 512, 513, 1000)] == [
        256,
        256,
        512,
        512,
        1000,
        1000,
    ]
    assert slots(5, 64) == 64


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["longrope past its training", "experts in a window"])
def test_compiled_draws_are_eager_draws(name: str) -> None:
    model, _ = shared(name)
    with eager():
        expected = continued(model, PROMPT, 40, sampling=DRAWN, seed=5)
    assert continued(model, PROMPT, 40, sampling=DRAWN, seed=5) == expected


def test_a_seed_reproduces_and_another_does_not() -> None:
    model = decoder()
    first = continued(model, PROMPT, 30, sampling=Sampling(), seed=1)
    assert continued(model, PROMPT, 30, sampling=Sampling(), seed=1) == first
    assert continued(model, PROMPT, 30, sampling=Sampling(), seed=2) != first


def test_every_token_is_a_new_draw() -> None:
    undecided = Script([], n_prompt=1, vocab_size=100)
    said = undecided.step
    undecided.step = lambda t, s: (mx.zeros((1, 1, 100)), said(t, s)[1])  # type: ignore
    tokens = [token for (token,) in continued(undecided, [1], 300, sampling=Sampling())]
    counts = [tokens.count(token) for token in range(100)]
    assert sum(count == 0 for count in counts) < 20, "5 are expected"
    assert max(counts) < 15, "3 are expected"


def test_rows_are_drawn_independently_from_the_same_prompt() -> None:
    model = decoder()
    rows = list(started(model, *[PROMPT] * 4, sampling=Sampling(temp=1)).tokens(20))
    texts = {tuple(column) for column in zip(*rows, strict=True)}
    assert len(texts) == 4
    greedy = list(started(model, *[PROMPT] * 3, sampling=GREEDY).tokens(20))
    assert greedy == [[token] * 3 for (token,) in by_whole_passes(model, PROMPT, 20)]


def test_no_step_is_computed_after_the_last_token() -> None:
    """Counted eagerly, where every step is a trace."""
    engine = started(decoder(), PROMPT, sampling=GREEDY)
    assert len(list(engine.tokens(7))) == 7
    assert len(engine.traces) == 7
    stopped = started(decoder(), PROMPT, sampling=GREEDY)
    tokens = stopped.tokens(7)
    next(tokens)
    tokens.close()  # type: ignore[attr-defined]
    assert len(stopped.traces) == 2, "one token, and the step queued behind it"


def test_a_penalty_without_end_forbids_what_the_prompt_or_the_window_has() -> None:
    model = decoder()
    never = Sampling(temp=0, repetition_penalty=1e9)
    tokens = [token for (token,) in continued(model, PROMPT, VOCAB - len(PROMPT), sampling=never)]
    assert sorted(tokens + PROMPT) == list(range(VOCAB))
    recent = Sampling(temp=0, repetition_penalty=1e9, repetition_window=3)
    tokens = PROMPT + [token for (token,) in continued(model, PROMPT, 40, sampling=recent)]
    new = range(len(PROMPT), len(tokens))
    assert all(tokens[i] not in tokens[i - 3 : i] for i in new)
    assert len(set(tokens)) < len(tokens)


def test_tokens_that_the_tokenizer_lacks_are_never_drawn() -> None:
    hot = Sampling(temp=50.0)
    tokens = continued(decoder(), PROMPT, 60, sampling=hot, vocab_size=27)
    assert max(token for (token,) in tokens) <= 26


def test_a_state_has_the_dtype_of_the_weights() -> None:
    model = decoder()
    model.set_dtype(mx.bfloat16)
    engine = started(model, PROMPT, sampling=GREEDY)
    assert len(list(engine.tokens(5))) == 5
    caches = [block["mixer"] for block in engine.cache["blocks"]]
    assert {cache[name].dtype for cache in caches for name in "kv"} == {mx.bfloat16}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error_with_the_cure(bad: float) -> None:
    model = Script([1, 2, 3], n_prompt=1)
    said = model.step

    def spoilt(tokens: mx.array, state: dict[str, mx.array]) -> tuple[mx.array, dict]:
        logits, after = said(tokens, state)
        one = (state["offset"] == 2) & (mx.arange(logits.shape[-1]) == 7)
        return mx.where(one, bad, logits), after

    model.step = spoilt  # type: ignore[method-assign]
    tokens = started(model, [9], sampling=GREEDY).tokens(5)
    assert [next(tokens), next(tokens)] == [[1], [2]]
    with pytest.raises(RunError, match="earlier checkpoint"):
        next(tokens)


PROMPTS = [[3, 14, 15, 9, 26, 5], [7], [31, 8, 2, 0, 11, 12, 13, 14, 15, 16, 17, 18]]


@pytest.mark.parametrize(
    ("name", "sampling"),
    [("plain", GREEDY), *((name, DRAWN) for name in BATCHED)],
    ids=["greedy", *BATCHED],
)
def test_rows_of_a_batch_are_those_of_their_prompts_alone(name: str, sampling: Sampling) -> None:
    model = BATCHED[name]()
    with eager():
        together = list(started(model, *PROMPTS, sampling=sampling, seed=4).tokens(24))
        for i, prompt in enumerate(PROMPTS):
            alone = continued(model, prompt, 24, sampling=sampling, seed=4 + i)
            assert [row[i] for row in together] == [token for (token,) in alone]


@pytest.mark.compiled
def test_changed_weights_are_used_without_a_new_trace() -> None:
    model = decoder()
    engine = Engine(model, sampling=GREEDY)
    engine.start([PROMPT])
    before = list(engine.tokens(20))
    model.update(tree_map(lambda x: x[::-1] if x.ndim == 1 else x * 1.5, model.parameters()))
    engine.start([PROMPT])
    after = list(engine.tokens(20))
    assert after != before
    assert after == by_whole_passes(model, PROMPT, 20)
    assert len(engine.traces) == 1


def test_an_engine_needs_a_token_in_every_prompt() -> None:
    for prompts in ([], [[1], []]):
        with pytest.raises(RunError, match="at least one token"):
            Engine(decoder()).start(prompts)


@pytest.mark.parametrize("name", ["plain", "learned positions", "longrope past its training"])
def test_vectors_stand_before_a_prompt_as_embeddings_do(name: str) -> None:
    model = BATCHED[name]()
    before = [[1, 2, 3], [], [4]]
    table = model.embed.table.weight
    vectors = [table[mx.array(ids, dtype=mx.int32)] if ids else table[:0] for ids in before]
    with eager():
        as_tokens = [[*ids, *prompt] for ids, prompt in zip(before, PROMPTS, strict=True)]
        expected = list(started(model, *as_tokens, sampling=GREEDY).tokens(30))
        engine = Engine(model, sampling=GREEDY)
        engine.start(PROMPTS, vectors=vectors)
        assert list(engine.tokens(30)) == expected
        engine.start(PROMPTS, vectors=[v + 1.0 for v in vectors])
        assert list(engine.tokens(30)) != expected
    assert "vectors" not in engine.cache


def test_a_recurrent_model_reads_vectors_too() -> None:
    model = BATCHED["recurrent"]()
    with eager():
        expected = list(started(model, [5, 6, 7], sampling=GREEDY).tokens(20))
        engine = Engine(model, sampling=GREEDY)
        engine.start([[7]], vectors=[model.embed.table.weight[mx.array([5, 6])]])
        assert list(engine.tokens(20)) == expected
