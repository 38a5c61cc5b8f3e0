"""Distillation from inside a teacher, against the papers' formulas in NumPy."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.core.context import Collected, Context, Layout, Recording
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.objectives.layer_losses import LayerLosses, Relations
from mlx_transformers.ops.distillation import divergence, log_softmax
from mlx_transformers.ops.soft_targets import SoftTeacher, soft_targets
from mlx_transformers.ops.unembedding import Unembedding

from .models import BERT, LLAMA
from .suite import VOCAB, parse, randomize

Array = np.ndarray
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 8)).astype(np.int32)
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1, 1], [2] * 8])
ROWS = SEGMENTS[:, :-1]
SEEN = (np.tri(7, dtype=bool) & (ROWS[:, None] == ROWS[..., None]))[:, None]
COUNTED = np.float64(SEGMENTS[:, 1:] == SEGMENTS[:, :-1])
MIXER = {"kind": "attention", "n_heads": 2}
STUDENT = LLAMA | {
    "n_layers": 1,
    "position": {"kind": "none"},
    "block": LLAMA["block"] | {"mixer": MIXER},
    "teacher_dim": 24,
}
TEACHER = STUDENT | {"n_layers": 2, "dim": 24, "teacher_dim": None}
MODELS = [randomize(parse("model", t).build(VOCAB), i) for i, t in enumerate((STUDENT, TEACHER))]


def loss_of(**changes: Any) -> tuple[float, dict[str, float]]:
    table = {"kind": "distill", "teacher": "t", "hard": 0.0, "soft": 0.0} | changes
    batch = {"tokens": mx.array(TOKENS), "segments": mx.array(SEGMENTS)}
    roles = dict(zip(("model", "teacher"), MODELS, strict=True))
    loss = parse("objective", table).build()(roles, batch, Context())
    return float(loss.total), {name: float(part) for name, part in loss.parts.items()}


def inside(model: Any) -> dict[str, list[Array]]:
    """Inputs and outputs of layers, and the heads `[B, H, T, K]` of queries, keys and values."""
    looks = Recording()
    ctx = Context(Layout(segments=mx.array(ROWS)), collected=Collected(observer=looks))
    model.hidden(model.embedded({"tokens": mx.array(TOKENS[:, :-1])}, ctx), ctx)
    seen = {
        name: [np.float64(array) for key, array in looks.arrays if key == name]
        for name in ("layer_input", "layer_output", "mixer_input")
    }
    for name in "qkv":
        seen[name] = [
            (x @ np.float64(block.mixer[name].weight).T).reshape(2, 7, 2, -1).swapaxes(1, 2)
            for x, block in zip(seen["mixer_input"], model.stack.blocks, strict=True)
        ]
    return seen


def softmax(scores: Array) -> Array:
    e = np.where(SEEN, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
    return e / e.sum(axis=-1, keepdims=True)


def scores(seen: dict[str, list[Array]], layer: int) -> Array:
    q, k = seen["q"][layer], seen["k"][layer]
    return q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])


def divergence_of(student: Array, teacher: Array) -> float:
    """KL(teacher ‖ student) of attention `[B, H, T, T]`, over the counted tokens."""
    p, q = softmax(teacher), softmax(student)
    logs = np.log(np.where(SEEN, p, 1)) - np.log(np.where(SEEN, q, 1))
    return float(((p * logs).sum(-1).mean(1) * COUNTED).sum())


def relation(x: Array, heads: int) -> Array:
    x = x.swapaxes(1, 2).reshape(2, 7, heads, -1).swapaxes(1, 2)
    return x @ x.swapaxes(-1, -2) / np.sqrt(x.shape[-1])


def test_tinybert_compares_scores_outputs_and_embeddings() -> None:
    """Equations 7 to 9 of Jiao et al. 2020, the student's one layer with the teacher's second."""
    own, taught = map(inside, MODELS)
    projection = np.float64(MODELS[0].taught.weight).T
    apart = (scores(own, 0) - scores(taught, 1)) ** 2
    attention = np.where(SEEN, apart, 0).sum(-1) / SEEN.sum(-1)
    wanted = {
        "attention": (attention.mean(axis=1) * COUNTED).sum(),
        "layers": (
            ((own["layer_output"][0] @ projection - taught["layer_output"][1]) ** 2).mean(-1)
            * COUNTED
        ).sum(),
        "embeddings": (
            ((own["layer_input"][0] @ projection - taught["layer_input"][0]) ** 2).mean(-1)
            * COUNTED
        ).sum(),
    }
    total, parts = loss_of(attention=2.0, layers=3.0, embeddings=5.0)
    for name, value in wanted.items():
        assert parts[name] == pytest.approx(value, rel=1e-4), name
    combined = 2 * wanted["attention"] + 3 * wanted["layers"] + 5 * wanted["embeddings"]
    assert total == pytest.approx(combined, rel=1e-4)


def test_minilm_compares_the_last_attention_and_relations() -> None:
    """Wang et al. 2020, section 3, and 2021 (MiniLMv2) in four relation heads."""
    own, taught = map(inside, MODELS)
    first = divergence_of(scores(own, 0), scores(taught, 1))
    first += divergence_of(relation(own["v"][0], 2), relation(taught["v"][1], 2))
    assert loss_of(relations={"weight": 3.0})[0] == pytest.approx(3 * first, rel=1e-4)
    second = sum(
        divergence_of(relation(own[name][0], 4), relation(taught[name][0], 4)) for name in "qkv"
    )
    table = {"of": ["queries", "keys", "values"], "heads": 4, "teacher_layer": 1}
    assert loss_of(relations=table)[0] == pytest.approx(second, rel=1e-4)


@pytest.mark.compiled
def test_gradients_of_a_recomputed_and_compiled_student_are_those_of_the_plain_one() -> None:
    student, teacher = MODELS
    batch = {"tokens": mx.array(TOKENS), "segments": mx.array(SEGMENTS)}
    table = {"kind": "distill", "teacher": "t", "attention": 1.0, "layers": 1.0, "relations": {}}
    objective = parse("objective", table).build()
    params = student.trainable_parameters()

    def loss(params: Any) -> mx.array:
        student.update(params)
        return objective({"model": student, "teacher": teacher}, batch, Context()).total

    plain = mx.grad(loss)(params)
    student.update(params)
    student.stack.recomputed = frozenset({0})
    again = mx.compile(mx.grad(loss))(params)
    student.update(params)
    student.stack.recomputed = frozenset()
    for module, name in (("mixer", "q"), ("mixer", "v"), ("ffn", "down")):
        pair = [g["stack"]["blocks"][0][module][name]["weight"] for g in (plain, again)]
        assert mx.allclose(*pair, rtol=1e-4, atol=1e-6).item()
        assert mx.abs(pair[0]).max().item() > 0


def test_layers_capture_only_the_arrays_that_are_requested() -> None:
    """The student's last layer alone, where only relations ask; the teacher's every layer."""
    student, teacher = Context(), Context()
    relations = Relations(of=("attention", "values"))
    LayerLosses({}, relations).request(student, teacher)
    for ctx, wanted in (
        (student, {"scores/1", "values/1"}),
        (teacher, {"scores/0", "values/0", "scores/1", "values/1"}),
    ):
        model = MODELS[1]
        model.hidden(model.embedded({"tokens": mx.array(TOKENS)}, ctx), ctx)
        assert set(ctx.collected.captured) == wanted


def test_a_masked_batch_is_compared_at_all_tokens_but_padding() -> None:
    """Means over the valid tokens, of which the masked ones are a few, times the masked weights."""
    rng = np.random.default_rng(2)
    models = [randomize(parse("model", BERT | {"n_layers": n}).build(VOCAB), n) for n in (1, 2)]
    tokens = rng.integers(1, VOCAB, (2, 8)).astype(np.int32)
    valid = np.arange(8) < np.array([[8], [5]])
    weights = np.float32((np.arange(8) % 4 == 1) & valid)
    batch = {
        name: mx.array(each)
        for name, each in (("tokens", tokens), ("targets", tokens), ("valid", valid))
    } | {"weights": mx.array(weights)}
    table = {"kind": "distill", "teacher": "t", "hard": 0.0, "soft": 0.0} | {
        "layers": 1.0, "embeddings": 1.0, "attention": 1.0, "cosine": 1.0, "relations": {}
    }  # fmt: skip
    roles = dict(zip(("model", "teacher"), models, strict=True))
    loss = parse("objective", table).build()(roles, batch, Context())

    seen = []
    for model in models:
        looks = Recording()
        layout = Layout(causal=False, valid=mx.array(valid))
        ctx = Context(layout, collected=Collected(observer=looks))
        last = model.hidden(model.embedded({"tokens": batch["tokens"]}, ctx), ctx)
        arrays = [np.float64(x) for key, x in looks.arrays if key == "layer_output"]
        first = next(np.float64(x) for key, x in looks.arrays if key == "layer_input")
        seen.append((first, arrays[-1], np.float64(last)))
    own, taught = seen
    norms = [np.linalg.norm(each[2], axis=-1) for each in seen]
    wanted = {
        "embeddings": ((own[0] - taught[0]) ** 2).mean(-1),
        "layers": ((own[1] - taught[1]) ** 2).mean(-1),
        "cosine": 1 - (own[2] * taught[2]).sum(-1) / norms[0] / norms[1],
    }
    for name, value in wanted.items():
        expected = value[valid].mean() * weights.sum()
        assert float(loss.parts[name]) == pytest.approx(expected, rel=1e-4), name
    assert float(loss.weight) == weights.sum()
    padded = batch | {"tokens": mx.array(np.where(valid, tokens, 7))}
    again = parse("objective", table).build()(roles, padded, Context())
    for name, part in loss.parts.items():
        assert float(again.parts[name]) == pytest.approx(float(part), rel=1e-5), name


def test_relations_compare_models_of_any_depth() -> None:
    roles = dict(zip(("teacher", "model"), MODELS, strict=True))
    table = {"kind": "distill", "teacher": "t", "hard": 0.0, "soft": 0.0, "relations": {}}
    loss = parse("objective", table).build()(roles, {"tokens": mx.array(TOKENS)}, Context())
    assert float(loss.total) > 0
    with pytest.raises(RecipeError, match=r"the 2 layers of the model with the 1"):
        parse("objective", table | {"attention": 1.0}).build()(
            roles, {"tokens": mx.array(TOKENS)}, Context()
        )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"teacher": "t", "hard": 0.0, "soft": 0.0}, "nothing is learned"),
        ({"teacher": {"a": 1.0, "b": 1.0}, "soft": 0.0}, "several teachers share"),
    ],
)
def test_terms_without_effect_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse("objective", {"kind": "distill"} | table)


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="heads = 5 doesn't divide the queries"):
        loss_of(relations={"of": ["queries"], "heads": 5})
    with pytest.raises(RecipeError, match=r"teacher_layer = 3, and the teacher has 2"):
        loss_of(relations={"teacher_layer": 3})
    with pytest.raises(ValueError, match="each is above 0"):
        parse("objective", {"kind": "distill", "teacher": {"a": 1.0, "b": 0.0}})


def test_several_teachers_teach_the_mean_of_their_distributions() -> None:
    rng = np.random.default_rng(1)
    h, out = rng.standard_normal((5, 4)), rng.standard_normal((VOCAB, 4))
    pairs = [(rng.standard_normal((5, w)), rng.standard_normal((VOCAB, w))) for w in (4, 6)]
    logits = [mx.array(x @ w.T, mx.float32) for x, w in [(h, out), *pairs]]
    student, *theirs = (log_softmax(x, 2.0) for x in logits)
    mean = mx.log(0.25 * mx.exp(theirs[0]) + 0.75 * mx.exp(theirs[1]))
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        wanted = 4 * divergence(student, mean, kind, 0.3).sum()
        teachers = [
            SoftTeacher(
                mx.array(x, mx.float32), Unembedding(mx.array(w, mx.float32), None, None), s
            )
            for (x, w), s in zip(pairs, (1.0, 3.0), strict=True)
        ]
        found = soft_targets(
            mx.array(h, mx.float32),
            Unembedding(mx.array(out, mx.float32), None, None),
            teachers,
            mx.ones(5),
            2.0,
            chunk=2,
            kind=kind,
            beta=0.3,
        )
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    frozen = parse("objective", {"kind": "distill", "teacher": {"a": 1.0, "b": 3.0}}).frozen()
    assert frozen == {"teacher.a": "a", "teacher.b": "b"}
