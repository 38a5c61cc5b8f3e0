"""Evaluation: all of the split, every token once, and nothing of training disturbed."""

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.stream import EvalStream
from mlx_transformers.verbs import evaluate as verb

from . import tiny


def valid(built, rows, **options):
    setting = BatchSetting(built.recipe.train.seq_len, batch_size=rows)
    return EvalStream(built.data, setting, **options)


def reference(built, masked=False):
    """Nats of every token of the split after its first, row by row in NumPy; and their number."""
    tokens = built.data.tokens("valid")
    text = np.array(tokens[0 : len(tokens)]).astype(np.int64)
    nats, n = 0.0, 0
    for start in range(0, len(text) - 1, 16):
        row = text[start : start + 17]
        logits = np.array(built.model(mx.array(row[None, :-1]), Context()))[0].astype(np.float64)
        log_z = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        nats += (log_z - logits[np.arange(len(row) - 1), row[1:]]).sum()
        n += len(row) - 1
    return nats, n


def test_the_loss_is_the_mean_over_every_token_of_the_split(tmp_path):
    built = tiny.built(tmp_path)
    nats, n = reference(built)
    found = built.evaluator(valid(built, 4))
    assert n == len(built.data.tokens("valid")) - 1
    assert n % 16
    assert n % 64
    assert found["val_tokens"] == n
    assert found["val_loss"] == pytest.approx(nats / n, rel=1e-6)
    assert found["val_ppl"] == pytest.approx(math.exp(nats / n), rel=1e-5)


def test_a_loss_that_is_no_number_is_no_result(tmp_path, monkeypatch):
    built = tiny.built(tmp_path)
    weights = tree_map(lambda array: array * mx.nan, built.model.parameters())
    built.model.update(weights)
    monkeypatch.setattr(verb, "open_run", lambda *_: (tmp_path, built))
    with pytest.raises(RunError, match="is nan: its training diverged"):
        verb.evaluate("any")


def test_bits_per_byte_are_the_bits_of_the_text_over_its_bytes(tmp_path):
    """In a text whose characters have one to three bytes; the last tenth is held out."""
    path = tiny.write(tmp_path)
    words = tiny.text(300).replace("o", "ö").replace("e", "€")
    (tmp_path / "text.txt").write_text(words, encoding="utf-8")
    built = tiny.built(tmp_path)
    assert path.exists()
    tokens = built.data.tokens("valid")
    held_out = built.tokenizer.decode(np.array(tokens[0 : len(tokens)]).tolist())
    assert words.endswith(held_out)
    nats, n = reference(built)
    per_token = len(held_out.encode()) / len(held_out)
    assert per_token > 1.2
    found = built.evaluator(valid(built, 4))
    assert found["val_bpb"] == pytest.approx(nats / n / math.log(2) / per_token, rel=1e-6)


def test_the_batch_size_makes_no_difference(tmp_path):
    built = tiny.built(tmp_path)
    found = [built.evaluator(valid(built, rows))["val_loss"] for rows in (1, 3, 8)]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


def test_documents_are_masked_as_in_training(tmp_path):
    """Two documents in one row: neither the border nor anything across it counts."""
    built = tiny.built(tmp_path)
    tokens = mx.array(tiny.tokens((1, 17), built.tokenizer.vocab_size))
    segments = mx.array([[0] * 7 + [1] * 10])
    found = built.evaluator([{"tokens": tokens, "segments": segments}])
    parts = [built.evaluator([{"tokens": t}]) for t in (tokens[:, :7], tokens[:, 7:])]
    assert found["val_tokens"] == 15
    nats = sum(p["val_loss"] * p["val_tokens"] for p in parts)
    assert found["val_loss"] == pytest.approx(nats / 15, rel=1e-5)


def test_dropout_is_off_and_two_evaluations_agree(tmp_path):
    built = tiny.built(tmp_path, "model.block.dropout=0.9")
    plain = tiny.built(tmp_path, "model.block.dropout=0.0", "model.embed.dropout=0.0")
    first, again, other = (b.evaluator(valid(b, 4)) for b in (built, built, plain))
    assert first == again == other


def test_the_average_of_the_weights_is_what_is_measured(tmp_path):
    built = tiny.built(tmp_path, "train.ema=0.99")
    tokens = mx.array(tiny.tokens((4, 17), built.tokenizer.vocab_size))
    start = built.evaluator(valid(built, 4))["val_loss"]
    for index in range(5):
        mx.eval(built.step([{"tokens": tokens}], index), built.step.state)
    weights = tiny.leaves(built.model.parameters())
    found = built.evaluator(valid(built, 4))["val_loss"]
    assert tiny.same(built.model.parameters(), weights)
    built.model.update(built.step.train_state.ema.average)
    nats, n = reference(built)
    assert found == pytest.approx(nats / n, rel=1e-6)
    assert found != start


@pytest.mark.compiled
def test_an_evaluation_is_traced_once_and_follows_the_weights(tmp_path):
    built = tiny.built(tmp_path)
    first = built.evaluator(valid(built, 4))["val_loss"]
    built.model.update({"norm": {"weight": built.model.norm.weight * 2}})
    second = built.evaluator(valid(built, 4))["val_loss"]
    assert built.evaluator._sums.traces == 1
    assert second != first


@pytest.mark.parametrize("sets", [(), ("train.ema=0.9", "train.dtype='bfloat16'")], ids=str)
def test_evaluations_and_samples_do_not_disturb_training(tmp_path, sets):
    quiet = tiny.run(tmp_path, *sets, name="quiet")
    busy = tiny.run(
        tmp_path, *sets, "eval.every=1", "log.sample_every=2", "log.sample_prompt='a'", name="busy"
    )
    weights = [r.folder.newest() / "model.safetensors" for r in (quiet, busy)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert tiny.records(quiet, "train_loss") == tiny.records(busy, "train_loss")
    assert len(tiny.records(busy, "val_loss")) == 6
    assert len(tiny.records(busy, "sample")) == 3
