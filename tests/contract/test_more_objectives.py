"""Objectives beside causal language modelling, against their formulas in NumPy."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.core.context import Collected, Context, Layout
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.core.loss import Loss
from mlx_transformers.objectives.distogram import precision

from . import models, reference
from .fakes import (
    WIDTH,
    Both,
    Coded,
    Comparing,
    Folder,
    Painting,
    Reader,
    Writer,
    model_of,
    numpy_of,
)
from .objectives import BATCHES, HIDDEN, NEEDED, PREFIX
from .suite import VOCAB, parse, randomize

Array = np.ndarray


def loss_of(
    config: dict[str, Any], batch: dict[str, Array], training: bool = False, model: Any = None
) -> Loss:
    ctx = Context(key=mx.random.key(0) if training else None)
    arrays = {name: mx.array(array) for name, array in batch.items()}
    model = model or model_of(config["kind"], VOCAB)
    return parse("objective", config).build()({"model": model, "pictures": Coded(1)}, arrays, ctx)


def mean(x: Array, valid: Array) -> Array:
    return np.stack([row[real].mean(axis=0) for row, real in zip(x, valid, strict=True)])


def hidden(model: Any, tokens: Array, ctx: Context) -> Array:
    return np.array(model.hidden(model.embedded({"tokens": mx.array(tokens)}, ctx), ctx))


def encoded(w: dict[str, Array], batch: dict[str, Array], tokens: str = "tokens") -> Array:
    """What `Reader` makes of a batch."""
    valid = batch.get(f"{tokens}_valid", batch.get("valid"))
    x = w["table"][batch[tokens]]
    if "types" in batch:
        x = x + w["types"][batch["types"]]
    return x + mean(x, valid)[:, None]


def nll(logits: Array, label: int) -> float:
    return float(np.log(np.exp(logits).sum()) - logits[label])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_target_is_conditioned_on_the_source_that_exists(
    smoothing: float, training: bool
) -> None:
    batch = BATCHES["seq2seq"]
    w = numpy_of(Writer(VOCAB))
    source = w["table"][batch["source"]]
    valid = batch["source_valid"]
    memory = source + mean(source, valid)[:, None]
    h = w["table"][batch["tokens"][:, :-1]] + mean(memory, valid)[:, None]
    total, plain = reference.cross_entropy(
        h @ w["out"].T, batch["tokens"][:, 1:], batch["weights"], smoothing
    )
    found = loss_of({"kind": "seq2seq", "label_smoothing": smoothing}, batch, training)
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    assert float(found.parts["loss"]) == pytest.approx(plain, rel=1e-5)
    assert float(found.weight) == batch["weights"].sum()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_hidden_tokens_are_told_from_what_exists_around_them(training: bool) -> None:
    batch, w = BATCHES["mlm"], numpy_of(Reader(VOCAB))
    logits = 2 * encoded(w, batch) @ w["out"].T
    total, _ = reference.cross_entropy(logits, batch["targets"], HIDDEN)
    found = loss_of({"kind": "mlm"}, batch, training)
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    assert float(found.weight) == HIDDEN.sum()


def test_masked_words_and_the_order_of_sentences_are_both_means() -> None:
    batch, w = BATCHES["sentence_order"], numpy_of(Reader(VOCAB))
    x = encoded(w, batch)
    masked, _ = reference.cross_entropy(2 * x @ w["out"].T, batch["targets"], HIDDEN)
    logits = mean(x, batch["valid"]) @ w["classes"].T
    order = np.mean([nll(logits[i], batch["label"][i]) for i in range(2)])
    found = loss_of({"kind": "sentence_order", "order_weight": 0.7}, batch)
    n = HIDDEN.sum()
    assert float(found.total) / n == pytest.approx(masked / n + 0.7 * order, rel=1e-5)
    assert float(found.parts["loss"]) == pytest.approx(masked, rel=1e-5)
    assert float(found.parts["order_loss"]) / n == pytest.approx(order, rel=1e-5)
    right = np.mean(logits[:2].argmax(axis=1) == batch["label"][:2])
    assert float(found.parts["accuracy"]) / n == pytest.approx(right)


def test_the_class_of_a_row_that_counts() -> None:
    batch, w = BATCHES["classify"], numpy_of(Reader(VOCAB))
    logits = mean(encoded(w, batch), batch["valid"]) @ w["classes"].T
    found = loss_of({"kind": "classify"}, batch)
    expected = sum(nll(logits[i], batch["label"][i]) for i in range(2))
    assert float(found.total) == pytest.approx(expected, rel=1e-5)
    assert float(found.weight) == 2
    right = (logits[:2].argmax(axis=1) == batch["label"][:2]).sum()
    assert float(found.parts["accuracy"]) == right


def test_the_tags_of_words_that_begin() -> None:
    batch, w = BATCHES["tag"], numpy_of(Reader(VOCAB))
    logits = encoded(w, batch) @ w["classes"].T
    total, _ = reference.cross_entropy(logits, batch["targets"], HIDDEN)
    found = loss_of({"kind": "tag"}, batch)
    assert float(found.total) == pytest.approx(total, rel=1e-5)
    right = ((logits.argmax(axis=-1) == batch["targets"]) * HIDDEN).sum()
    assert float(found.parts["accuracy"]) == right


def test_an_answer_starts_and_ends_among_the_tokens_that_exist() -> None:
    batch, w = BATCHES["answer"], numpy_of(Reader(VOCAB))
    logits = encoded(w, batch) @ w["classes"].T
    expected = 0.0
    for row in range(2):
        real = logits[row][batch["valid"][row]]
        ends = zip(real.T[:2], batch["answer"][row], strict=True)
        expected += np.mean([nll(end, place) for end, place in ends])
    assert float(loss_of({"kind": "answer"}, batch).total) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_partner_is_told_from_those_of_the_rows_that_count(symmetric: bool) -> None:
    batch, w = BATCHES["contrastive"], numpy_of(Reader(VOCAB))
    a, b = (mean(encoded(w, batch, name), batch[f"{name}_valid"]) @ w["classes"].T for name in "ab")
    scores = (a @ b.T / 5.0)[:2, :2]
    expected = sum(nll(scores[i], i) for i in range(2))
    if symmetric:
        expected = (expected + sum(nll(scores[:, i], i) for i in range(2))) / 2
    config = {"kind": "contrastive", "temperature": 5.0, "symmetric": symmetric}
    found = loss_of(config, batch)
    assert float(found.total) == pytest.approx(expected, rel=1e-5)
    assert float(found.parts["accuracy"]) == (scores.argmax(axis=1) == np.arange(2)).sum()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_text_is_told_from_those_of_the_other_pictures_that_count(loss: str) -> None:
    batch, w = BATCHES["clip"], numpy_of(Comparing(VOCAB))
    pictures = w["table"][batch["pixels"]].mean(axis=1) @ w["classes"].T
    texts = mean(encoded(w, batch), batch["valid"]) @ w["classes"].T
    scores = (pictures @ texts.T / 5)[:2, :2]
    if loss == "softmax":
        expected = sum(nll(scores[i], i) + nll(scores[:, i], i) for i in range(2)) / 2
    else:
        expected = np.log1p(np.exp(scores * (1 - 2 * np.eye(2)))).sum()
    found = loss_of({"kind": "clip", "loss": loss}, batch)
    assert float(found.total) == pytest.approx(expected, rel=1e-5)
    assert float(found.weight) == 2
    assert float(found.parts["accuracy"]) == (scores.argmax(axis=1) == np.arange(2)).sum()


def test_the_discriminator_judges_tokens_that_the_generator_drew() -> None:
    batch, pair = BATCHES["rtd"], Both(VOCAB)
    w = numpy_of(pair.generator)
    logits = 2 * encoded(w, batch) @ w["out"].T
    masked, _ = reference.cross_entropy(logits, batch["targets"], HIDDEN)
    generator = mx.array(logits.astype(np.float32))
    drawn = np.array(mx.random.categorical(generator, key=mx.random.key(0)))
    guesses = np.where(HIDDEN > 0, drawn, batch["targets"])
    d = numpy_of(pair.discriminator)
    scores = (encoded(d, batch | {"tokens": guesses}) @ d["classes"].T)[..., 0]
    replaced = guesses != batch["targets"]
    assert 0 < replaced.sum() <= HIDDEN.sum()
    each = np.log1p(np.exp(np.where(replaced, -scores, scores)))
    judged = batch["valid"] * (HIDDEN.sum(axis=1) > 0)[:, None]
    found = loss_of({"kind": "rtd", "discriminator_weight": 50.0}, batch, model=pair)
    n = HIDDEN.sum()
    expected = masked / n + 50 * (each * judged).sum() / judged.sum()
    assert float(found.total) / n == pytest.approx(expected, rel=1e-4)
    assert float(found.parts["loss"]) == pytest.approx(masked, rel=1e-5)


def test_no_gradient_goes_from_the_judgement_to_the_generator() -> None:
    batch, pair = BATCHES["rtd"], Both(VOCAB)

    def gradients(weight: float) -> dict[str, Array]:
        def total(params: Any) -> mx.array:
            pair.update(params)
            config = {"kind": "rtd", "discriminator_weight": weight}
            return loss_of(config, batch, training=True, model=pair).total

        params = pair.trainable_parameters()
        grads = mx.grad(total)(params)
        pair.update(params)
        return {name: np.array(g) for name, g in tree_flatten(grads)}

    one, two = gradients(1.0), gradients(2.0)
    for name, g in one.items():
        if name.startswith("generator"):
            np.testing.assert_array_equal(g, two[name], err_msg=name)
        elif name.endswith(("table", "classes")):
            assert np.abs(g - two[name]).max() > 0, name


def test_a_prefix_is_seen_in_both_directions_and_only_what_follows_is_predicted() -> None:
    model = randomize(parse("model", models.LLAMA).build(VOCAB), 0)

    def loss(batch: dict[str, Array]) -> Loss:
        return loss_of({"kind": "prefix_lm"}, batch, model=model)

    row = {name: array[:1] for name, array in PREFIX.items()}  # a prefix of 3 tokens
    base = loss(row)
    assert float(base.weight) == 7
    changed = row | {"tokens": row["tokens"].copy()}
    changed["tokens"][0, 2] = (changed["tokens"][0, 2] + 1) % VOCAB
    ctx = Context(Layout(prefix=mx.array(row["prefix"])))
    h, other = (hidden(model, b["tokens"][:, :-1], ctx) for b in (row, changed))
    assert np.abs(h - other)[0, 0].max() > 1e-4  # the first token sees the third
    changed["tokens"] = row["tokens"].copy()
    changed["tokens"][0, 5] = (changed["tokens"][0, 5] + 1) % VOCAB
    other = hidden(model, changed["tokens"][:, :-1], ctx)
    np.testing.assert_array_equal(h[0, :5], other[0, :5])


@pytest.mark.parametrize("chunk", [4, 512])
@pytest.mark.parametrize("masked", [True, False])
def test_a_student_learns_from_the_tokens_the_teacher_and_its_vectors(
    masked: bool, chunk: int
) -> None:
    temperature, hard, soft, cosine = 2.5, 2.0, 5.0, 1.5
    batch = BATCHES["mlm"] if masked else {"tokens": PREFIX["tokens"]}
    if masked:
        student, teacher = Reader(VOCAB, seed=1), Reader(VOCAB, seed=2)
        h, taught = (2 * encoded(numpy_of(m), batch) for m in (student, teacher))
        heads = [numpy_of(m)["out"] for m in (student, teacher)]
        targets, weights = batch["targets"], HIDDEN
    else:
        student, teacher = (randomize(parse("model", models.LLAMA).build(VOCAB), s) for s in (1, 2))
        tokens = batch["tokens"][:, :-1]
        h, taught = (np.float64(hidden(m, tokens, Context())) for m in (student, teacher))
        heads = [np.float64(m.unembedding().weight) for m in (student, teacher)]
        targets, weights = batch["tokens"][:, 1:], np.ones((3, 9))
    plain, _ = reference.cross_entropy(h @ heads[0].T, targets, weights)
    q, p = (x @ w.T / temperature for x, w in zip((h, taught), heads, strict=True))
    q, p = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (q, p))
    divergence = temperature**2 * ((np.exp(p) * (p - q)).sum(-1) * weights).sum()
    norms = np.linalg.norm(h, axis=-1) * np.linalg.norm(taught, axis=-1)
    # In a masked batch the vectors of all tokens count, as much in all as the masked ones.
    compared = weights
    if masked:
        compared = batch["valid"] * (weights.sum() / batch["valid"].sum())
    turned = ((1 - (h * taught).sum(-1) / norms) * compared).sum()
    config = {"kind": "distill", "teacher": "t", "temperature": temperature, "hard": hard}
    config |= {"soft": soft, "cosine": cosine, "chunk": chunk}
    arrays = {name: mx.array(array) for name, array in batch.items()}
    objective = parse("objective", config).build()

    def total(params: Any) -> mx.array:
        student.update(params)
        roles = {"model": student, "teacher": teacher}
        return objective(roles, arrays, Context(key=mx.random.key(0))).total

    params = student.trainable_parameters()
    value, grads = mx.value_and_grad(total)(params)
    student.update(params)
    expected = hard * plain + soft * divergence + cosine * turned
    assert float(value) == pytest.approx(expected, rel=1e-4)
    # The slope along a random direction, against a difference of losses.
    rng = np.random.default_rng(0)
    flat = dict(tree_flatten(params))
    way = {name: rng.standard_normal(value.shape) * 1e-3 for name, value in flat.items()}
    way = {name: mx.array(step.astype(np.float32)) for name, step in way.items()}
    moved = [
        total(tree_unflatten([(name, flat[name] + sign * step) for name, step in way.items()]))
        for sign in (1, -1)
    ]
    student.update(params)
    slope = sum(float((way[n] * g).sum()) for n, g in tree_flatten(grads))
    assert float(moved[0] - moved[1]) / 2 == pytest.approx(slope, rel=0.02)


def test_layers_of_a_student_learn_from_those_that_they_stand_for() -> None:
    """Layers 1 and 2 of a student from 2 and 4 of its teacher; a smaller teacher is refused."""
    student, teacher = (
        randomize(parse("model", models.LLAMA | {"n_layers": n}).build(VOCAB), n) for n in (2, 4)
    )
    tokens, found = mx.array(PREFIX["tokens"]), []
    for model in (student, teacher):
        ctx = Context(collected=Collected(layers=[]))
        hidden(model, tokens[:, :-1], ctx)
        found.append([np.array(h) for h in ctx.collected.layers or []])
    pairs = [(found[0][i], found[1][j]) for i, j in ((0, 1), (1, 3))]
    wanted = sum(((h - taught) ** 2).mean(-1).sum() for h, taught in pairs) / 2
    table = {"kind": "distill", "teacher": "t", "hard": 0.0, "soft": 0.0, "layers": 2.0}
    objective = parse("objective", table).build()
    loss = objective({"model": student, "teacher": teacher}, {"tokens": tokens}, Context())
    assert float(loss.total) == pytest.approx(2 * wanted, rel=1e-5)
    with pytest.raises(RecipeError, match="the 4 layers of the model with the 2 of its teacher"):
        objective({"model": teacher, "teacher": student}, {"tokens": tokens}, Context())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", ["mlm", "sentence_order", "rtd"])
def test_a_head_that_reads_hidden_places_alone_says_the_same(kind: str, training: bool) -> None:
    """But for what a generator draws, since it draws in another order."""
    batch = BATCHES[kind]
    places = np.zeros((3, 4), np.int32)
    for row in range(3):
        hidden = np.flatnonzero(HIDDEN[row])
        places[row, : len(hidden)] = hidden
    one = loss_of({"kind": kind}, batch, training)
    two = loss_of({"kind": kind}, batch | {"places": places}, training)
    assert float(one.weight) == float(two.weight)
    for name in ("loss", "order_loss"):
        if name in one.parts:
            assert float(one.parts[name]) == pytest.approx(float(two.parts[name]), rel=1e-5)
    if kind != "rtd":
        assert float(one.total) == pytest.approx(float(two.total), rel=1e-5)
    else:
        n = float(two.parts["replaced"])
        assert 0 < n <= HIDDEN.sum()


@pytest.mark.compiled
@pytest.mark.parametrize("kind", BATCHES)
def test_a_loss_its_parts_and_its_gradients_can_leave_one_compiled_function(kind: str) -> None:
    model, batch = model_of(kind, VOCAB), BATCHES[kind]

    def step(params: Any) -> Any:
        def loss(params: Any) -> Any:
            model.update(params)
            out = loss_of({"kind": kind, **NEEDED.get(kind, {})}, batch, training=True, model=model)
            return out.total, (out.parts, out.weight)

        return mx.value_and_grad(loss)(params)

    params = model.trainable_parameters()
    (total, (parts, weight)), _ = mx.compile(step)(params)
    model.update(params)
    assert mx.isfinite(total).item()
    assert {"loss"} <= set(parts)
    assert weight.item() == BATCHES[kind]["weights"].sum()


def test_tokens_of_pictures_stand_in_their_places_and_are_predicted_as_text_is() -> None:
    batch = BATCHES["mixed_modal"]
    codes = np.array(Coded(1).picture_tokens(mx.array(batch["pixels"])))
    tokens, places = batch["tokens"].copy(), batch["places"]
    for row, place in zip(*np.nonzero(places), strict=True):
        tokens[row, place] += codes[row, places[row, place] - 1]
    plain = loss_of({"kind": "clm"}, {"tokens": tokens, "weights": batch["weights"]})
    found = loss_of({"kind": "mixed_modal", **NEEDED["mixed_modal"]}, batch)
    assert float(found.total) == pytest.approx(float(plain.total), rel=1e-6)
    assert float(found.weight) == batch["weights"].sum()


def test_a_picture_and_its_codes_are_painted_near_their_target() -> None:
    batch, w = BATCHES["vqvae"], numpy_of(Painting(VOCAB))
    z = w["table"][batch["pixels"]]
    codes = np.round(2 * z) / 2
    error = np.square(codes @ w["classes"].T - batch["pixels"][..., None] / VOCAB).mean((1, 2))
    off = np.square(z - codes).mean((1, 2))
    found = loss_of({"kind": "vqvae", "commitment": 0.7}, batch)
    assert float(found.total) == pytest.approx((error + 0.7 * off)[:2].sum(), rel=1e-5)
    assert float(found.parts["loss"]) == pytest.approx(error[:2].sum(), rel=1e-5)


def test_pairs_of_residues_and_masked_letters_are_means_of_a_family() -> None:
    batch, w = BATCHES["distogram"], numpy_of(Folder(VOCAB))
    x = encoded(w, batch)
    rows = x.reshape(3, 3, 2, WIDTH).mean(axis=1)
    logits = (rows[:, 0] * rows[:, 1]) @ w["classes"].T
    pairs = sum(nll(logits[i], 0) for i in range(2))
    letters, masked = 2 * x @ w["out"].T, batch["masked"]
    each = [
        np.mean([nll(letters[i, t], batch["letters"][i, t]) for t in np.flatnonzero(masked[i])])
        for i in range(2)
    ]
    found = loss_of({"kind": "distogram", "masked_weight": 0.7}, batch)
    assert float(found.total) == pytest.approx(pairs + 0.7 * sum(each), rel=1e-5)
    assert float(found.parts["loss"]) == pytest.approx(pairs, rel=1e-5)
    assert float(found.weight) == 2
    assert float(found.parts["precision"]) == 2  # the only pair is a contact


def test_precision_counts_each_pair_of_residues_once() -> None:
    n = 10  # the two likeliest pairs
    contact = np.zeros((n, n), np.float32)
    contact[0, 5] = contact[5, 0] = 3.0
    contact[1, 7] = contact[7, 1] = 2.0
    logits = mx.array(np.stack([contact, -contact], axis=-1).reshape(1, n * n, 2))
    pairs = np.ones((n, n), np.int32)
    pairs[0, 5] = pairs[5, 0] = 0
    found = precision(logits, mx.array(pairs.reshape(1, -1)), mx.ones((1, n * n)))
    assert found.tolist() == [0.5]
