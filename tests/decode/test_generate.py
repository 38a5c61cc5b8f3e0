"""Text in, text out: stop strings, characters, ends, numbers, and what is refused."""

import gc
import itertools
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.core.errors import MlxtError, RunError
from mlx_transformers.core.tree import size_bytes
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.char import CharTokenizer
from mlx_transformers.decode import generate as module
from mlx_transformers.decode.cache_size import cache_bytes_per_token, state_bytes
from mlx_transformers.decode.generate import (
    Stream,
    generate,
    generate_batch,
    prompt_tokens,
    stream,
)
from mlx_transformers.decode.sample import Sampling

from .models import Script, decoder, eager

BYTES = ByteTokenizer()
PROMPT = "say"
GREEDY = Sampling(temp=0)
EMOJI = "na\u00efve \U0001f469\u200d\U0001f680 \u6f22\u5b57!"


def said(text: str, **options: object) -> Stream:
    """The stream of a model that says `text`, then ends the document."""
    script = Script([*text.encode(), BYTES.eos_id or 0], n_prompt=len(PROMPT))
    return stream(script, BYTES, PROMPT, sampling=GREEDY, **options)  # type: ignore[arg-type]


def test_text_ends_with_the_document() -> None:
    pieces = said("Hello.")
    assert "".join(pieces) == "Hello."
    assert pieces.stats.end_reason == "stop"
    assert pieces.stats.generated_tokens == 7


def test_pieces_never_split_a_character() -> None:
    pieces = list(said(EMOJI))
    assert pieces == list(EMOJI)


def test_a_character_that_the_limit_cuts_is_marked() -> None:
    pieces = said("ab\U0001f469", max_tokens=4)
    assert "".join(pieces) == "ab\ufffd"
    assert pieces.stats.end_reason == "length"


@pytest.mark.parametrize("stop", ["lo w", "\u6f22\u5b57", ["zzz", "\U0001f469"], ["o", "lo wor"]])
def test_a_stop_string_is_cut_out_though_each_token_is_a_byte(stop: str | list[str]) -> None:
    text = "Hello world, \u6f22\u5b57 \U0001f469\u200d\U0001f680"
    first = min(text.find(s) for s in ([stop] if isinstance(stop, str) else stop) if s in text)
    pieces = said(text, stop=stop)
    # Of "o" and "lo wor", "o" is complete first.
    expected = "Hell" if stop == ["o", "lo wor"] else text[:first]
    assert "".join(pieces) == expected
    assert pieces.stats.end_reason == "stop string"


def test_what_might_have_been_a_stop_string_is_output_at_the_end() -> None:
    pieces = said("Hello wo", stop="world")
    assert "".join(pieces) == "Hello wo"
    assert pieces.stats.end_reason == "stop"


def test_the_limit_of_tokens_and_the_context_are_different_ends() -> None:
    model = Script([*b"x" * 50], n_prompt=3, context=20)
    pieces = stream(model, BYTES, PROMPT, sampling=GREEDY, max_tokens=17)
    assert "".join(pieces) == "x" * 17
    assert pieces.stats.end_reason == "length"
    pieces = stream(model, BYTES, PROMPT, sampling=GREEDY, max_tokens=18)
    assert "".join(pieces) == "x" * 17, "prompt and text fill the context of 20"
    assert pieces.stats.end_reason == "context"


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_a_generation_can_fill_the_context(position: str) -> None:
    model = decoder(context=48, position={"kind": position}, vocab_size=257)
    tokens = [int(token) for token in generate_tokens(model, [5, 6, 7], 45)]
    assert len(tokens) == 45
    whole = model(mx.array([[5, 6, 7, *tokens]]))[0, 2:-1].argmax(-1)
    assert whole.tolist() == tokens


def generate_tokens(model: object, prompt: list[int], n: int) -> list[int]:
    engine = module.Engine(model, sampling=GREEDY)  # type: ignore[arg-type]
    request = module._Request([prompt], engine, max_tokens=n + 99)
    return [token for (token,) in request.begin([0])]


def test_generate_is_the_pieces_of_stream_and_takes_tokens_too() -> None:
    model = decoder(vocab_size=257)
    options = {"max_tokens": 30, "seed": 3}
    text = generate(model, BYTES, "abc", **options)
    assert text == "".join(stream(model, BYTES, "abc", **options))  # type: ignore[arg-type]
    assert text == generate(model, BYTES, [97, 98, 99], **options)
    assert text != generate(model, BYTES, "abc", max_tokens=30, seed=4)


def test_samples_end_each_in_its_own_time() -> None:
    tokenizer = CharTokenizer.train(["abcdefgh"])
    model = decoder(vocab_size=8)
    options = {"max_tokens": 40, "sampling": Sampling(temp=1.0)}
    (free,) = generate_batch(model, tokenizer, ["a"], samples=5, **options)  # type: ignore[arg-type]
    assert [(len(one.text), one.tokens, one.end_reason) for one in free] == [(40, 40, "length")] * 5
    (cut,) = generate_batch(model, tokenizer, ["a"], samples=5, stop="c", **options)  # type: ignore[arg-type]
    assert [one.text for one in cut] == [one.text.split("c")[0] for one in free]
    assert len({one.tokens for one in cut}) > 1
    with pytest.raises(RunError, match="at least 1"):
        generate_batch(model, tokenizer, ["a"], samples=0)


def test_texts_of_a_batch_are_those_of_their_prompts_alone() -> None:
    model = decoder(vocab_size=257)
    prompts = ["abc", "a longer prompt", "x", "ab"]
    options = {"max_tokens": 20, "sampling": Sampling(temp=0.9)}
    seen: list[tuple[int, int]] = []

    def progress(done: int, texts: int) -> None:
        seen.append((done, texts))

    shape = {"samples": 2, "seed": 3, "rows": 3, "progress": progress}
    with eager():
        found = generate_batch(model, BYTES, prompts, **shape, **options)  # type: ignore[arg-type]
        for p, group in enumerate(found):
            for s, one in enumerate(group):
                assert one.text == generate(model, BYTES, prompts[p], seed=3 + 2 * p + s, **options)
    assert seen[-1] == (6, 8), "two texts go on to the limit in the last of three groups"


def test_a_model_may_know_more_tokens_than_its_tokenizer() -> None:
    model, tokenizer = decoder(vocab_size=40), CharTokenizer.train(["abc"])
    text = generate(model, tokenizer, "a", max_tokens=50, sampling=Sampling(temp=100.0))
    assert len(text) == 50
    assert set(text) == set("abc")


def test_an_empty_prompt_begins_a_document_where_the_tokenizer_can() -> None:
    class Beginning(ByteTokenizer):
        bos_id = 200

    model = decoder(vocab_size=257)
    text = generate(model, Beginning(), "", max_tokens=10)
    assert text == generate(model, BYTES, [200], max_tokens=10)
    assert BYTES.eos_id is not None
    after_another = generate(model, BYTES, [BYTES.eos_id], max_tokens=10)
    assert generate(model, BYTES, "", max_tokens=10) == after_another
    with pytest.raises(RunError, match="Begin the text yourself"):
        stream(decoder(vocab_size=8), CharTokenizer.train(["abcdefgh"]), "")


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("x" * 96, {}, r"has 96 tokens, and the model's context of 96 .* at most 95 tokens"),
        ("x" * 5000, {}, r"has 5,000 tokens"),
        ([4, 257], {}, "token 257, but model and tokenizer know tokens from 0 to 256"),
        ([-1], {}, "token -1"),
        ("x\udcff", {}, "not UTF-8"),
        ("x", {"max_tokens": 0}, "max_tokens = 0 generates nothing"),
        ("x", {"seed": -1}, "seed = -1 is out of range"),
        ("x", {"seed": 2**64}, "is out of range"),
        ("x", {"stop": [""]}, "stop string is empty"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_computed(
    prompt: str | list[int], options: dict[str, object], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        stream(decoder(vocab_size=257), BYTES, prompt, **options)  # type: ignore[arg-type]


def test_a_prompt_that_the_tokenizer_cannot_write_is_refused() -> None:
    tokenizer = CharTokenizer.train(["abc"])
    with pytest.raises(MlxtError, match="'z'"):
        stream(decoder(vocab_size=3), tokenizer, "abz")


def test_stats_are_counts_by_measured_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    pieces = said("Hello.")
    assert (pieces.stats.prompt_tokens_per_s, pieces.stats.generation_tokens_per_s) == (None, None)
    assert pieces.stats.end_reason == "unfinished"
    "".join(pieces)
    stats = pieces.stats
    # One reading of the clock at the start, then one a token.
    assert stats.prompt_tokens == 3
    assert stats.prompt_tokens_per_s == 3 / 0.25
    assert stats.generated_tokens == 7
    assert stats.generation_tokens_per_s == 6 / (6 * 0.25)
    assert "prompt: 3 tokens, 12.0 tokens/s; generation: 7 tokens, 4.0 tokens/s" in stats.line()


def test_peak_memory_is_at_least_the_weights_and_the_cache() -> None:
    model = decoder(vocab_size=257)
    pieces = stream(model, BYTES, PROMPT, max_tokens=4)
    "".join(pieces)
    assert (
        pieces.stats.peak_gib * 2**30 >= size_bytes(model.parameters()) + pieces.stats.cache_bytes
    )


def test_cache_bytes_are_those_of_keys_and_values() -> None:
    layers, kv_heads, width = 2, 2, 8
    full = decoder(context=96)
    assert cache_bytes_per_token(full) == 2 * layers * kv_heads * width * 4
    narrow = decoder(context=96, window=7)
    assert cache_bytes_per_token(narrow) == 2 * layers * kv_heads * width * 4 * 7 / 96
    full.set_dtype(mx.bfloat16)
    assert cache_bytes_per_token(full) == 2 * layers * kv_heads * width * 2
    state = full.init_state(3, 10, mx.float32)
    assert state_bytes(state) == 3 * 10 * 2 * layers * kv_heads * width * 4


def test_a_finished_generation_leaves_no_memory_behind() -> None:
    model = decoder(vocab_size=257)
    generate(model, BYTES, PROMPT, max_tokens=5)
    mx.synchronize()
    before = mx.get_active_memory()
    gc.disable()
    try:
        for _ in range(3):
            generate(model, BYTES, PROMPT, max_tokens=5)
        mx.synchronize()
        assert mx.get_active_memory() == before
    finally:
        gc.enable()


class Framed(ByteTokenizer):
    """A byte tokenizer published with a template and special tokens."""

    prefix = (200,)
    ends = (300,)
    special_ids: Mapping[str, int] = {"<|im_end|>": 301, "<|im_start|>": 302}
    vocab_size = 400


def framed(script: list[int], prompt: str = "ab", **options: Any) -> Stream:
    model = Script(script, n_prompt=3, vocab_size=400)
    return stream(model, Framed(), prompt, sampling=GREEDY, **options)


def test_a_prompt_gets_what_the_template_puts_before_it() -> None:
    script = [*b"xy", 256]
    for prompt, options, tokens in (
        ("ab", {}, [200, 97, 98]),
        ("ab", {"bos": False}, [97, 98]),
        ("<|im_start|>b", {"special_tokens": True}, [200, 302, 98]),
        ("<|im_start|>b", {}, [200, *b"<|im_start|>b"]),
    ):
        assert framed(script, prompt, **options)._request.rows == [tokens]
    assert prompt_tokens(Framed(), [97], 400) == [97], "tokens are taken as they are"


@pytest.mark.parametrize(
    ("last", "stop", "reason"),
    [(256, (), "stop"), (300, (), "stop"), (301, "<|im_end|>", "stop string")],
)
def test_every_end_token_and_a_special_stop_end_a_text(
    last: int, stop: str | tuple[()], reason: str
) -> None:
    pieces = framed([*b"hi", last, *b"more"], stop=stop)
    assert "".join(pieces) == "hi"
    assert pieces.stats.end_reason == reason


def test_a_model_with_fewer_tokens_than_its_tokenizer_never_draws_those() -> None:
    model = decoder(vocab_size=120)
    text = generate(model, BYTES, "abc", max_tokens=200, sampling=Sampling(temp=50.0))
    assert text
    with pytest.raises(RunError, match="token 200"):
        generate(model, Framed(), "abc")
