"""Looking into models: each picture against what it claims to show."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from contract.adapters import adapted
from contract.blocks import BLOCK
from contract.depths import UNIVERSAL
from contract.mixers import HEADS, MAMBA
from contract.models import BERT, LLAMA, MIXTRAL, REFORMER, SPEECH, T5, VIT, VLM
from contract.recurrent import BAHDANAU
from contract.suite import VOCAB, parse, randomize

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.pictures.read import write_picture
from mlx_transformers.data.tokenizers.words import WordTokenizer
from mlx_transformers.inside.compare import compare
from mlx_transformers.inside.heads import induction
from mlx_transformers.inside.influence import influences
from mlx_transformers.inside.look import look, look_into
from mlx_transformers.inside.packing import pack, unpack
from mlx_transformers.inside.patching import patch
from mlx_transformers.inside.reading import read
from mlx_transformers.ops.selective_scan import implied_attention, selective_scan

WORDS = WordTokenizer(["<unk>", *"abcdefgh"])
TEXT = "a b c a b d e"
RETENTION = {"kind": "retention", "n_heads": 2, "norm": {"kind": "rms_norm"}}


def built(table: dict, **fields: Any) -> Any:
    return randomize(parse("model", table | fields).build(VOCAB), 0)


def test_a_decoder_shows_its_attention_its_layers_and_its_predictions() -> None:
    model = built(LLAMA)
    seen = look(model, WORDS, TEXT)
    logits = np.array(model(mx.array([WORDS.encode(TEXT)])))[0, :, : WORDS.vocab_size]
    odds = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert [token.strip() for token in seen.tokens] == TEXT.split()
    p = seen.predictions
    for t, token in enumerate(WORDS.encode(TEXT)[1:], 1):
        assert p.probability[t] == pytest.approx(odds[t - 1, token], rel=1e-4)
        assert p.rank[t] == (odds[t - 1] > odds[t - 1, token]).sum()
    np.testing.assert_allclose(p.top_probability[:, 0], odds.max(axis=-1), rtol=1e-4)
    for layer in seen.layers:
        assert layer.kind == "attention"
        assert layer.weights is not None
        np.testing.assert_allclose(layer.weights.sum(axis=-1), 1.0, rtol=1e-5)
        assert np.abs(np.triu(layer.weights, 1)).max() == 0
        assert set(layer.added) == {"mixer", "ffn"}
    last = seen.layers[-1].lens
    assert last is not None
    assert not last.rank.any()
    np.testing.assert_allclose(last.probability, p.top_probability[:, 0], rtol=1e-4)


def test_integrated_gradients_add_up_to_what_they_explain() -> None:
    model = built(LLAMA)
    seen = look(model, WORDS, TEXT).attribution
    reading = read(model, WORDS, TEXT)
    x = reading.embedded(reading.context())
    base = mx.broadcast_to(x.mean(axis=1, keepdims=True), x.shape)
    logits = reading.logits(base, reading.context())[0, -1]
    best = [word.strip() for word in WORDS.words].index(seen.predicted.strip())
    nothing = float((logits[best] - mx.logsumexp(logits)).item())
    assert seen.integrated.sum() == pytest.approx(seen.log_probability - nothing, abs=0.02)


@pytest.mark.parametrize("mixer", [RETENTION, HEADS | {"kind": "linear_attention"}, MAMBA])
def test_a_mixer_without_attention_shows_what_it_implies(mixer: dict) -> None:
    table = {key: value for key, value in mixer.items() if key != "n_kv_heads"}
    layer = look(built(LLAMA, block=BLOCK | {"mixer": table}), WORDS, TEXT).layers[0]
    assert layer.kind == "implied"
    assert layer.weights is not None
    assert np.abs(np.triu(layer.weights, 1)).max() < 1e-6
    assert np.abs(layer.weights[:, -1]).sum() > 0


def test_the_implied_attention_of_a_scan_times_its_inputs_is_its_output() -> None:
    u, dt = mx.random.uniform(shape=(1, 6, 1)), mx.random.uniform(shape=(1, 6, 1))
    b, c = (mx.random.uniform(shape=(1, 6, 1, 3)) for _ in range(2))
    a = -mx.random.uniform(shape=(1, 3))
    y, _ = selective_scan(u, dt, a, b, c)
    weights = implied_attention(a, dt, b, c)
    np.testing.assert_allclose(np.array(weights[:, 0] @ u), np.array(y), rtol=1e-4, atol=1e-6)


def test_the_influence_of_inputs_follows_a_mixers_reach() -> None:
    mixer = HEADS | {"n_kv_heads": 2, "window": 2}
    reading = read(built(LLAMA, block=BLOCK | {"mixer": mixer}), WORDS, TEXT)
    first, second = influences(reading, [True, False])
    assert first is not None
    assert second is None
    reach = np.tri(7, dtype=bool) & ~np.tri(7, k=-2, dtype=bool)
    assert (first[0][reach] > 0).all()
    assert np.abs(first[0][~reach]).max() == 0


def test_heads_are_told_apart_by_what_they_read() -> None:
    tokens = [1, 2, 3, 1, 2, 4]
    rows = np.zeros((6, 6))
    rows[3, 1] = rows[4, 2] = 1.0
    assert induction(rows, tokens) == 1.0
    assert np.isnan(induction(rows, [1, 2, 3, 4, 5, 6]))
    seen = look(built(LLAMA), WORDS, TEXT)
    first = seen.layers[0].weights
    assert first is not None
    assert seen.heads[0].previous == pytest.approx(np.diagonal(first[0], -1).mean(), rel=1e-4)
    assert seen.heads[0].sink == pytest.approx(first[0, 1:, 0].mean(), rel=1e-4)


def test_patching_brings_the_whole_prediction_back_where_all_of_it_passes() -> None:
    model = built(LLAMA)
    one, two = read(model, WORDS, "a b c d"), read(model, WORDS, "h b c d")
    found = patch(one, two)
    assert found.restored.shape == (2, 4)
    assert found.restored[-1, -1] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(found.restored[-1, :-1], 0.0, atol=1e-3)
    with pytest.raises(RunError, match="as many others"):
        patch(one, read(model, WORDS, "h b c"))
    both = compare(look_into(one), look_into(two))
    assert both.heads is not None
    assert np.array(both.heads).max() <= 1


def test_experts_of_a_mixture_show_their_tokens() -> None:
    layer = look(built(MIXTRAL), WORDS, TEXT).layers[0]
    assert layer.experts is not None
    assert ((layer.experts > 0).sum(axis=-1) == 2).all()


def test_a_routed_block_and_halting_tokens_show_themselves() -> None:
    routed = look(built(LLAMA, block=BLOCK | {"route": {"capacity": 0.5}}), WORDS, TEXT)
    for layer in routed.layers:
        assert layer.routed is not None
        skipped = ~layer.routed
        assert layer.weights is not None
        assert not layer.weights[:, :, skipped].any()  # nobody reads a token that was left out
    halting = look(built(LLAMA, depth=UNIVERSAL), WORDS, TEXT)
    assert halting.steps is not None
    assert halting.steps.min() >= 1
    assert halting.steps.max() <= 2


def test_an_encoder_predicts_its_own_tokens_and_reads_both_ways() -> None:
    seen = look(built(BERT), WORDS, TEXT)
    assert seen.predicts == "own"
    assert not np.isnan(seen.predictions.probability).any()
    weights = seen.layers[0].weights
    assert weights is not None
    assert weights[:, 0, -1].min() > 0


def test_an_encoder_decoder_shows_both_towers_and_what_crosses() -> None:
    model = randomize(parse("model", T5).build(VOCAB), 0)
    seen = look(model, WORDS, "a b c", target="d e")
    towers = [layer.tower for layer in seen.layers]
    assert towers == sorted(towers, reverse=True)
    assert len(set(towers)) == 2
    cross = seen.layers[-1].cross
    assert cross is not None
    assert cross.shape[1:] == (len(seen.tokens), len(seen.source))
    np.testing.assert_allclose(cross.sum(axis=-1), 1.0, rtol=1e-5)


def test_a_recurrent_translator_shows_its_alignment() -> None:
    seen = look(randomize(parse("model", BAHDANAU).build(VOCAB), 0), WORDS, "a b c", target="d e")
    assert seen.alignment is not None
    assert not seen.layers
    assert seen.alignment.shape == (len(seen.tokens), len(seen.source))


def test_a_model_that_sees_reads_a_picture_before_its_text(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    write_picture(file, np.arange(27, dtype=np.uint8).reshape(3, 3, 3) * 9)
    model = built(VLM)
    seen = look(model, WORDS, "a b", image=file)
    n = len(seen.tokens) - 2
    assert seen.tokens[:n] == [f"[patch {i}]" for i in range(1, n + 1)]
    weights = seen.layers[0].weights
    assert weights is not None
    assert weights.shape[1:] == (n + 2, n + 2)
    seen = look(model, WORDS, "a <image> b", image=file)
    assert [t.strip() for t in (seen.tokens[0], seen.tokens[1], seen.tokens[-1])] == [
        "a",
        "[patch 1]",
        "b",
    ]
    pixels = read(model, WORDS, "a", image=file).arrays["pixels"]
    assert mx.issubdtype(pixels.dtype, mx.integer), "floats would not be scaled"
    assert int(pixels.max()) > 200
    with pytest.raises(RunError, match="2 times"):
        look(model, WORDS, "<image> <image>", image=file)
    with pytest.raises(RunError, match="there is no picture"):
        look(model, WORDS, "a <image>")
    with pytest.raises(RunError, match="reads no picture"):
        look(built(LLAMA), WORDS, "a b", image=file)
    with pytest.raises(RunError, match="no target"):
        look(built(LLAMA), WORDS, "a b", target="c")


def test_what_cannot_be_looked_into_says_so() -> None:
    with pytest.raises(RunError, match="reversible"):
        look(built(REFORMER), WORDS, "a b")
    with pytest.raises(RunError, match="no head over the vocabulary"):
        look(built(VIT), WORDS, "a b")
    with pytest.raises(RunError, match="reads frames"):
        look(built(SPEECH), WORDS, "a b")
    with pytest.raises(RunError, match="64 tokens"):
        look(built(LLAMA), WORDS, "a " * 64)
    for kind in ("prompt", "prefix"):
        model = adapted(parse("adapt", {"kind": kind, "length": 3}))
        with pytest.raises(RunError, match="vectors before the text"):
            look(model, WORDS, "a b")


def test_packed_maps_keep_their_magnitudes() -> None:
    maps = np.random.default_rng(0).dirichlet(np.ones(9), (2, 9)).astype(np.float32)
    np.testing.assert_allclose(unpack(pack(maps, 255)), maps, atol=4e-3)
