"""Optimizer state in 16 and 8 bits: what is kept, how it is rounded, and that runs stay exact."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.tree import assign, snapshot
from mlx_transformers.optim.adam import Adam, AdamW
from mlx_transformers.optim.int8_state import BLOCK, MAX_CODE, MIN_SIZE, Int8, compand, expand
from mlx_transformers.optim.lion import Lion
from mlx_transformers.optim.low_precision_state import STATE_FORMATS, Bfloat16
from mlx_transformers.optim.muon import Muon

CONFIGS = [
    Adam(learning_rate=1e-2, state="bfloat16"),
    AdamW(learning_rate=1e-2, weight_decay=0.1, state="bfloat16"),
    AdamW(learning_rate=1e-2, weight_decay=0.1, state="int8"),
    Lion(learning_rate=1e-3, state="int8"),
    Muon(learning_rate=0.02, weight_decay=0.1, rest=("first",), state="int8"),
    Muon(learning_rate=0.02, rest=("first",), state="bfloat16"),
]


def name(config):
    return f"{config.kind}-{config.state}"


class Net(nn.Module):
    """Matrices with and without a part of a block at their end, and vectors below the least."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(65, 70)
        self.second = nn.Linear(70, 64)

    def __call__(self, x):
        return self.second(nn.relu(self.first(x)))


def trained(config, steps=8, compiled=True, resume=None):
    """The model and optimizer after some updates; with `resume`, put into new objects there."""
    mx.random.seed(0)
    model = Net()
    optimizer = config.build(model, steps)
    draw = np.random.default_rng(0)
    data = [mx.array(draw.normal(size=(16, 65)).astype(np.float32)) for _ in range(steps)]
    target = mx.array(draw.normal(size=(65, 64)).astype(np.float32))

    def compile(model, optimizer):
        gradients = nn.value_and_grad(model, lambda m, x: mx.square(m(x) - x @ target).mean())

        def step(x):
            value, grads = gradients(model, x)
            optimizer.update(model, grads)
            return value

        state = [model.state, optimizer.state]
        return mx.compile(step, inputs=state, outputs=state) if compiled else step

    step, losses = compile(model, optimizer), []
    for i, x in enumerate(data):
        if i == resume:
            saved = snapshot([model.parameters(), optimizer.state])
            model, optimizer = Net(), None
            optimizer = config.build(model, steps)
            model.update(saved[0])
            assign(optimizer.state, saved[1])
            step = compile(model, optimizer)
        losses.append(step(x).item())
        mx.eval(model.state, optimizer.state)
    return model, optimizer, losses


def same(a, b):
    a, b = dict(tree_flatten(a)), dict(tree_flatten(b))
    return a.keys() == b.keys() and all(mx.array_equal(a[k], b[k]).item() for k in a)


def compiled(config):
    """Kernels of Adam's two forms are built in every run, those of other rules by `make soak`."""
    marks = [] if isinstance(config, Adam | AdamW) else [pytest.mark.soak]
    return pytest.param(config, marks=marks, id=name(config))


@pytest.mark.compiled
@pytest.mark.parametrize("config", map(compiled, CONFIGS))
def test_compiled_equals_eager_and_resumed_equals_whole_bit_by_bit(config):
    model, optimizer, losses = trained(config)
    for other in (trained(config, compiled=False), trained(config, resume=5)):
        assert losses == other[2]
        assert same(model.parameters(), other[0].parameters())
        assert same(optimizer.state, other[1].state)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_updates_stay_near_those_of_float32(config):
    """As near as a hundredth of what is learned."""
    packed = trained(config, 40)[2]
    exact = trained(config.model_copy(update={"state": "float32"}), 40)[2]
    assert packed != exact
    np.testing.assert_allclose(packed, exact, atol=0.03 * (exact[0] - exact[-1]))


@pytest.mark.parametrize(
    ("config", "bytes"),
    [
        (AdamW(learning_rate=1e-3), 8.0),
        (AdamW(learning_rate=1e-3, state="bfloat16"), 4.0),
        (AdamW(learning_rate=1e-3, state="int8"), 2 + 8 / BLOCK),
        (Lion(learning_rate=1e-3, state="int8"), 1 + 4 / BLOCK),
        (Muon(learning_rate=1e-3, rest=(), state="int8"), 1 + 4 / BLOCK),
    ],
    ids=["float32", "bfloat16", "int8", "lion", "muon"],
)
def test_a_number_takes_the_bytes_promised(config, bytes):
    model = nn.Linear(BLOCK, BLOCK, bias=False)
    leaves = tree_flatten(config.build(model, 1).state)
    assert sum(x.nbytes for _, x in leaves if x.ndim) == bytes * BLOCK * BLOCK


def test_small_arrays_stay_in_float32_beside_8_bits():
    state = AdamW(learning_rate=1e-3, state="int8").build(Net(), 1).state
    assert state["first"]["bias"]["m"].dtype == mx.float32
    assert state["first"]["weight"]["m"]["code"].dtype == mx.int8
    assert state["first"]["weight"]["v"]["code"].dtype == mx.uint8


def test_the_tree_has_twice_as_many_codes_in_every_decade():
    values = expand(np.arange(MAX_CODE + 1.0))
    assert values[0] == 0
    assert values[-1] == 1
    assert np.all(np.diff(values) > 0)
    upper = 10.0 ** np.arange(-6, 1) * (1 + 1e-9)
    counts = np.histogram(values[1:], np.concatenate([[0], upper]))[0]
    np.testing.assert_array_equal(counts, 2 ** np.arange(7))
    steps = np.diff(values[-(2**6) - 1 :])
    np.testing.assert_allclose(steps, 0.9 / 2**6, rtol=1e-9)


def test_codes_are_the_inverse_of_what_they_stand_for():
    c = np.arange(0, MAX_CODE + 0.25, 0.25)
    found = compand(mx.array(expand(c).astype(np.float32)))
    np.testing.assert_allclose(np.array(found), c, atol=1e-3)


def spread(shape, seed=0):
    """Numbers of many magnitudes and both signs."""
    draw = np.random.default_rng(seed)
    return mx.array((draw.normal(size=shape) * np.exp(2 * draw.normal(size=shape))).astype("f4"))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("shape", [(MIN_SIZE,), (71, 67), (3, 40, 50)])
def test_the_largest_of_a_block_is_exact_and_others_are_near(shape, positive):
    x = mx.square(spread(shape)) if positive else spread(shape)
    form = Int8()
    packed = form.pack(x, positive, None)
    found = np.array(form.unpack(packed, x)).reshape(-1)
    want = np.array(x).reshape(-1)
    for first in range(0, want.size, BLOCK):
        ours, true = found[first : first + BLOCK], want[first : first + BLOCK]
        most = np.abs(true).argmax()
        assert ours[most] == pytest.approx(true[most], rel=1e-6)
        scale = np.abs(true).max()
        size, error = np.abs(true) / scale, np.abs(ours - true) / scale
        if positive:
            size, error = np.sqrt(size), np.abs(np.sqrt(ours) - np.sqrt(true)) / np.sqrt(scale)
        half = 0.5 * 0.9 / 2**6 / (2 if positive else 1)
        decade = np.ceil(np.log10(size))
        for d in (0, -1, -2):  # each decade has half the codes on a tenth of the width
            assert np.all(error[decade == d] <= half * 0.2**-d * 1.01)
    assert np.all(np.sign(found) * np.sign(want) >= 0)


def test_zeros_stay_zeros():
    for form in STATE_FORMATS.values():
        for key in (None, mx.random.key(0)):
            zeros = mx.zeros((80, 80))
            assert mx.array_equal(form.unpack(form.pack(zeros, True, key), zeros), zeros)


@pytest.mark.parametrize("form", STATE_FORMATS.values(), ids=STATE_FORMATS.keys())
def test_rounding_keeps_the_mean(form):
    x = spread((64, 64))
    keys = mx.random.split(mx.random.key(1), 400)
    found = np.stack([np.array(form.unpack(form.pack(x, False, key), x)) for key in keys])
    low, high = found.min(0), found.max(0)
    assert np.all((found == low) | (found == high))
    share = (np.array(x) - low) / np.where(high > low, high - low, 1.0)
    often = (share > 0.1) & (share < 0.9)
    assert often.mean() > 0.7
    error = np.abs(found.mean(0) - np.array(x)) / np.where(often, found.std(0) / 20, 1.0)
    assert error[often].max() < 5


def test_rounding_to_the_nearest_would_stand_still():
    """Why it is stochastic: 1.5 seen a thousand times by a mean that keeps 0.999 of the past."""
    form, x, keys = Bfloat16(), mx.ones((256,)), mx.random.split(mx.random.key(0), 1000)
    still, moving = x, x
    for i in range(1000):
        still = form.unpack(form.pack(0.999 * still + 0.001 * 1.5, True, None), x)
        moving = form.unpack(form.pack(0.999 * moving + 0.001 * 1.5, True, keys[i]), x)
        mx.eval(still, moving)
    assert mx.all(still == 1).item()
    assert mx.mean(moving).item() == pytest.approx(1.5 - 0.5 * 0.999**1000, rel=0.01)


def test_no_two_arrays_or_updates_round_alike():
    model = Net()
    model.update(tree_map(mx.zeros_like, model.parameters()))
    optimizer = Adam(learning_rate=1e-3, state="bfloat16").build(model, 2)
    seen = []
    for _ in range(2):
        optimizer.update(model, tree_map(lambda p: mx.full(p.shape, 0.7), model.parameters()))
        m = [optimizer.state[layer]["weight"]["m"] for layer in ("first", "second")]
        seen += [np.array(x.astype(mx.float32)).reshape(-1)[:4000] for x in m]
    low = [x == x.min() for x in seen]
    for i, a in enumerate(low):
        assert 0.02 < a.mean() < 0.98
        assert all((a != b).mean() > 0.02 for b in low[:i])
