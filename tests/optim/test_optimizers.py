"""Optimizers beside independent NumPy formulas, compiled beside eager, and their groups."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from pydantic import ValidationError

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.optim.adafactor import Adafactor
from mlx_transformers.optim.adam import Adam, AdamW
from mlx_transformers.optim.lion import Lion
from mlx_transformers.optim.muon import Muon, orthogonalize
from mlx_transformers.optim.optimizer import learning_rate
from mlx_transformers.optim.schedules import Cosine, Linear
from mlx_transformers.optim.sgd import Sgd

STEPS = 6
SCHEDULE = Linear(warmup=2, final_fraction=0.1)

CONFIGS = [
    Sgd(learning_rate=0.1),
    Sgd(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, schedule=SCHEDULE),
    Adam(learning_rate=1e-2, schedule=SCHEDULE),
    AdamW(learning_rate=1e-2, weight_decay=0.1, schedule=SCHEDULE),
    AdamW(learning_rate=1e-2, weight_decay=0.1, decay="all"),
    Adafactor(weight_decay=0.1),
    Adafactor(learning_rate=1e-2, beta1=0.9, schedule=SCHEDULE),
    Lion(learning_rate=1e-3, weight_decay=0.1, schedule=SCHEDULE),
    Muon(learning_rate=0.02, weight_decay=0.1, rest_learning_rate=1e-2, schedule=SCHEDULE),
    Muon(learning_rate=0.02, scale="rms", nesterov=False),
]


def name(config):
    return f"{config.kind}-{CONFIGS.index(config)}" if config in CONFIGS else config.kind


def compiled(config):
    """Adafactor's dozens of kernels are built by `make soak`, the others' in every run."""
    marks = [pytest.mark.soak] if isinstance(config, Adafactor) else []
    return pytest.param(config, marks=marks, id=name(config))


class Net(nn.Module):
    """Every shape of parameter: a table, matrices, vectors, a stack of matrices, a list."""

    roles: ClassVar = {"experts": "matrix"}

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.blocks = [
            nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
            for _ in range(2)
        ]
        self.experts = mx.random.normal((2, 4, 4)) * 0.1
        self.head = nn.Linear(4, 8)

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        for i in range(2):
            x = x + x @ self.experts[i]
        return self.head(x)


class Weights(nn.Module):
    """One matrix and one vector, and gradients given from outside."""

    roles: ClassVar = {"matrix": "matrix", "vector": "vector"}

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.matrix = mx.array(rng.normal(size=(3, 4)).astype(np.float32))
        self.vector = mx.array(rng.normal(size=(4,)).astype(np.float32))


def net(seed=0):
    mx.random.seed(seed)
    model = Net()
    mx.eval(model.parameters())
    return model


def train_step(model, optimizer, compiled):
    def loss(model, x):
        return nn.losses.cross_entropy(model(x), (3 * x + 1) % 8).mean()

    gradients = nn.value_and_grad(model, loss)
    state = [model.state, optimizer.state]

    def step(x):
        value, grads = gradients(model, x)
        optimizer.update(model, grads)
        return value

    return mx.compile(step, inputs=state, outputs=state) if compiled else step


def leaves(tree):
    return {path: np.array(leaf) for path, leaf in tree_flatten(tree)}


def run_numpy(config, formula, schedule=None):
    """The weights after STEPS updates: by the config, and by a formula on NumPy float64."""
    model, rng = Weights(), np.random.default_rng(1)
    optimizer = config.build(model, STEPS)
    reference = {k: v.astype(np.float64) for k, v in leaves(model.parameters()).items()}
    memory = {k: {} for k in reference}
    for s in range(STEPS):
        grads = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in reference.items()}
        rate = config.learning_rate
        if schedule is not None:
            rate *= schedule(s)
        for k in reference:
            reference[k] = formula(
                reference[k], grads[k].astype(np.float64), memory[k], s + 1, rate
            )
        optimizer.update(model, {k: mx.array(g) for k, g in grads.items()})
        assert learning_rate(optimizer).item() == pytest.approx(rate, rel=1e-6)
    got = leaves(model.parameters())
    for k in reference:
        np.testing.assert_allclose(got[k], reference[k], rtol=2e-5, atol=2e-6, err_msg=k)


def adam_formula(b1, b2, eps, decay=0.0):
    def update(w, g, memory, t, rate):
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        m, v = memory["m"] / (1 - b1**t), memory["v"] / (1 - b2**t)
        w = w * (1 - rate * decay * (w.ndim >= 2))
        return w - rate * m / (np.sqrt(v) + eps)

    return update


def test_adam_is_the_formula_with_bias_correction():
    config = Adam(learning_rate=1e-2, betas=(0.9, 0.98), eps=1e-6)
    run_numpy(config, adam_formula(0.9, 0.98, 1e-6))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_decay_of_adam_passes_through_its_moments(amsgrad):
    def update(w, g, memory, t, rate):
        g = g + 0.3 * (w.ndim >= 2) * w
        m = memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        v = memory["v"] = 0.95 * memory.get("v", 0) + 0.05 * g * g
        memory["largest"] = np.maximum(memory.get("largest", 0), v)
        root = np.sqrt((memory["largest"] if amsgrad else v) / (1 - 0.95**t)) + 1e-6
        return w - rate * m / (1 - 0.9**t) / root

    config = Adam(
        learning_rate=1e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.3, amsgrad=amsgrad
    )
    run_numpy(config, update)


def test_adamw_decays_matrices_by_the_scheduled_rate():
    config = AdamW(learning_rate=1e-2, betas=(0.8, 0.95), weight_decay=0.3, schedule=SCHEDULE)

    def schedule(s):
        return (s + 1) / 2 if s < 2 else 1 - 0.9 * (s - 2) / (STEPS - 2)

    run_numpy(config, adam_formula(0.8, 0.95, 1e-8, decay=0.3), schedule)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_formula(nesterov):
    def update(w, g, memory, t, rate):
        g = g + 0.1 * (w.ndim >= 2) * w
        memory["v"] = 0.9 * memory.get("v", 0) + g
        return w - rate * (g + 0.9 * memory["v"] if nesterov else memory["v"])

    run_numpy(Sgd(learning_rate=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.1), update)


def test_a_dampened_momentum_starts_with_the_whole_gradient():
    def update(w, g, memory, t, rate):
        g = g + 0.1 * (w.ndim >= 2) * w
        memory["v"] = g if t == 1 else 0.9 * memory["v"] + 0.7 * g
        return w - rate * memory["v"]

    run_numpy(Sgd(learning_rate=0.05, momentum=0.9, dampening=0.3, weight_decay=0.1), update)


def test_lion_is_the_formula():
    def update(w, g, memory, t, rate):
        m = memory.get("m", np.zeros_like(g))
        direction = np.sign(0.9 * m + 0.1 * g)
        memory["m"] = 0.99 * m + 0.01 * g
        return w * (1 - rate * 0.5 * (w.ndim >= 2)) - rate * direction

    run_numpy(Lion(learning_rate=1e-2, weight_decay=0.5), update)


def test_adafactor_is_the_formula():
    def update(w, g, memory, t, rate):
        b2 = 1 - t**-0.8
        square = g * g + 1e-30
        if w.ndim >= 2:
            memory["r"] = b2 * memory.get("r", 0) + (1 - b2) * square.mean(axis=-1)
            memory["c"] = b2 * memory.get("c", 0) + (1 - b2) * square.mean(axis=-2)
            second = memory["r"][:, None] * memory["c"][None] / memory["r"].mean()
        else:
            second = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * square
        u = g / np.sqrt(second)
        u = u / max(1.0, np.sqrt((u * u).mean()) / 0.7)
        scale = max(1e-3, np.sqrt((w * w).mean()))
        return w - rate * scale * (u + 0.2 * (w.ndim >= 2) * w)

    run_numpy(Adafactor(learning_rate=1e-2, clip_threshold=0.7, weight_decay=0.2), update)


def test_adafactor_without_a_rate_reports_its_relative_step():
    model = Weights()
    optimizer = Adafactor().build(model, 10)
    optimizer.update(model, model.parameters())
    assert learning_rate(optimizer).item() == pytest.approx(1e-2)
    optimizer.state["step"] = mx.array(39_999, mx.uint64)
    optimizer.update(model, model.parameters())
    assert learning_rate(optimizer).item() == pytest.approx(1 / 200, rel=1e-5)


def test_muon_moves_hidden_matrices_by_the_orthogonal_factor():
    model, rng = net(), np.random.default_rng(0)
    before = leaves(model.parameters())
    config = Muon(learning_rate=0.1, weight_decay=0.5, rest_learning_rate=1e-3)
    optimizer = config.build(model, 1)
    grads = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in before.items()}
    optimizer.update(model, tree_unflatten([(k, mx.array(g)) for k, g in grads.items()]))
    after = leaves(model.parameters())
    for path, w in before.items():
        top = path.split(".")[0]
        if top in ("embed", "head") or w.ndim < 2:
            decayed = w * (1 - 1e-3 * 0.5 * (w.ndim >= 2))
            np.testing.assert_allclose(
                decayed - after[path], 1e-3 * np.sign(grads[path]), rtol=1e-3
            )
            continue
        rows, columns = w.shape[-2:]
        step = (w * (1 - 0.1 * 0.5) - after[path]) / (0.1 * max(1, rows / columns) ** 0.5)
        steps, gradients = (np.reshape(x, (-1, rows, columns)) for x in (step, grads[path]))
        for one, g in zip(steps, gradients, strict=True):
            u, _, vt = np.linalg.svd(g, full_matrices=False)
            singular = np.diag(u.T @ one @ vt.T)
            assert np.all((singular > 0.6) & (singular < 1.25)), path
            np.testing.assert_allclose(u @ np.diag(singular) @ vt, one, atol=1e-3, err_msg=path)


def test_muon_moves_a_filter_as_the_matrix_of_its_outputs():
    mx.random.seed(4)
    model = nn.Conv2d(3, 6, kernel_size=(4, 2), bias=False)
    start = np.array(model.weight)
    gradient = mx.random.normal(model.weight.shape)
    optimizer = Muon(learning_rate=0.1, rest=(), nesterov=False).build(model, 1)
    optimizer.update(model, {"weight": gradient})
    u, _, vt = np.linalg.svd(np.array(gradient).reshape(6, -1), full_matrices=False)
    moved = (start - np.array(model.weight)).reshape(6, -1) / 0.1
    # The scale is that of a matrix of the filter's height and width, sqrt(4 / 2).
    values = np.diag(u.T @ moved @ vt.T) / 2**0.5
    assert np.all((values > 0.6) & (values < 1.3))
    off = u.T @ moved @ vt.T - np.diag(values) * 2**0.5
    np.testing.assert_allclose(off, 0, atol=1e-4)


def test_muon_leaves_the_named_modules_and_all_vectors_to_adamw():
    muon, adamw = Muon(learning_rate=0.02).build(net(), 1).state["states"]
    assert {"experts.v", "blocks.1.layers.3.weight.v"} <= set(leaves(muon))
    assert {"embed.weight.m", "head.weight.m"} <= set(leaves(adamw))
    assert not {name.removesuffix(".v") for name in leaves(muon)} & {
        name.removesuffix(".m") for name in leaves(adamw) if name.endswith(".m")
    }


def test_muon_refuses_a_model_without_the_named_modules():
    with pytest.raises(RecipeError, match=r"head.*blocks, embed, experts, head"):
        Muon(learning_rate=0.02, rest=("wte",)).build(net(), 1)


def test_orthogonalize_treats_each_matrix_of_a_stack_alone():
    stack = mx.random.normal((3, 5, 2), key=mx.random.key(0))
    alone = mx.stack([orthogonalize(stack[i], 5) for i in range(3)])
    np.testing.assert_allclose(np.array(orthogonalize(stack, 5)), np.array(alone), atol=1e-6)


@pytest.mark.compiled
@pytest.mark.parametrize("config", map(compiled, CONFIGS))
def test_compiled_equals_eager_bit_by_bit(config):
    results = []
    for compiled in (False, True):
        model = net()
        optimizer = config.build(model, STEPS)
        step = train_step(model, optimizer, compiled)
        for _ in range(STEPS):
            value = step(mx.arange(8))
            mx.eval(value, model.state, optimizer.state)
        results.append(leaves([model.parameters(), optimizer.state]))
    assert results[0].keys() == results[1].keys()
    for path, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][path], err_msg=path)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_the_loss_falls(config):
    model = net()
    optimizer = config.build(model, 30)
    step = train_step(model, optimizer, compiled=False)
    losses = [step(mx.arange(8)).item() for _ in range(30)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [Sgd, AdamW, Lion, Adafactor])
@pytest.mark.parametrize("decay", ["matrices", "all"])
def test_weight_decay_touches_what_it_should_only(kind, decay):
    """Without gradients only the decay moves anything."""
    model = Net()
    model.update(
        tree_unflatten([(k, mx.ones_like(v)) for k, v in tree_flatten(model.parameters())])
    )
    config = kind(learning_rate=0.1, weight_decay=0.5, decay=decay)
    optimizer = config.build(model, 3)
    optimizer.update(model, tree_map(mx.zeros_like, model.parameters()))
    for path, w in leaves(model.parameters()).items():
        decayed = decay == "all" or w.ndim >= 2
        np.testing.assert_allclose(w, 0.95 if decayed else 1.0, rtol=1e-6, err_msg=path)


def test_both_groups_follow_one_schedule():
    model = net()
    schedule = Cosine(warmup=2)
    optimizer = AdamW(learning_rate=1e-2, weight_decay=0.1, schedule=schedule).build(model, 5)
    for _ in range(4):
        optimizer.update(model, model.parameters())
    first, second = (state["learning_rate"].item() for state in optimizer.state["states"])
    assert first == second == learning_rate(optimizer).item()


def test_bfloat16_weights_stand_still_where_float32_ones_move():
    """Why the trainer keeps float32 masters."""
    moved = {}
    for dtype in (mx.bfloat16, mx.float32):
        model = nn.Linear(1, 1, bias=False)
        model.weight = mx.ones((1, 1), dtype)
        optimizer = AdamW(learning_rate=1e-4).build(model, 100)
        for _ in range(100):
            optimizer.update(model, {"weight": mx.ones((1, 1), dtype)})
        assert model.weight.dtype == dtype
        moved[dtype] = 1 - model.weight.astype(mx.float32).item()
    assert moved[mx.bfloat16] == 0.0
    assert moved[mx.float32] == pytest.approx(1e-2, rel=1e-3)


def test_tables_of_a_recipe_are_read_with_lists_and_refuse_the_wrong():
    table = {"kind": "adamw", "learning_rate": 1e-3, "betas": [0.9, 0.95]}
    assert AdamW.model_validate(table).betas == (0.9, 0.95)
    for wrong in (
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"betas": ["0.9", 0.95]},
        {"weight_decay": -0.1},
        {"learning_rate": 0.0},
        {"decay": "some"},
    ):
        with pytest.raises(ValidationError):
            AdamW.model_validate(table | wrong)
    with pytest.raises(ValidationError, match="momentum above 0"):
        Sgd(learning_rate=0.1, nesterov=True)
    with pytest.raises(ValidationError, match="shapes optim"):
        Adafactor(schedule=Cosine())
