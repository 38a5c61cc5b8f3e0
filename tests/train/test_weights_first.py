"""Gradients of weights before that of the block's input: the same numbers, in less memory."""

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.core.weights_first import weights_first
from mlx_transformers.models import stack

from . import tiny


def gradients(ordered: bool, depth: int = 3, frozen: bool = False) -> dict[str, mx.array]:
    """The gradients of a stack of layers, by name."""
    mx.random.seed(0)
    layers = [nn.Linear(4, 4) for _ in range(depth)]
    model = nn.Sequential(*layers)
    if frozen:
        layers[1].freeze()

    def loss(model: nn.Sequential, x: mx.array) -> mx.array:
        for layer in layers:
            f = lambda x, layer=layer: mx.tanh(layer(x))  # noqa: E731
            x = (weights_first([layer, nn.Tanh()], f) if ordered else f)(x)
        return x.square().sum()

    _, found = nn.value_and_grad(model, loss)(model, mx.random.normal((5, 4)))
    return dict(tree_flatten(found))


@pytest.mark.parametrize("frozen", [False, True])
def test_the_order_of_gradients_changes_none_of_them(frozen: bool) -> None:
    expected, found = gradients(False, frozen=frozen), gradients(True, frozen=frozen)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert mx.array_equal(gradient, found[name])
        assert mx.abs(gradient).max() > 0


@pytest.mark.parametrize(
    "sets",
    [
        ("train.recompute='all'",),
        ("model.n_layers=4", "model.n_distinct=2"),
        ("adapt={kind='lora', rank=2, targets=['mixer.q']}",),
        ("train.freeze=['stack.blocks.0']",),
    ],
    ids=["recomputed", "shared blocks", "lora", "frozen"],
)
def test_blocks_of_a_stack_have_the_gradients_that_they_have_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...]
) -> None:
    if mx.default_device() != mx.cpu:
        pytest.skip("a GPU computes here")
    tokens = mx.array(tiny.tokens((2, 9), 16))
    found: list[dict[str, mx.array]] = []
    for unordered in (False, True):
        if unordered:
            monkeypatch.setattr(stack, "weights_first", lambda modules, f: f)
        mx.random.seed(0)
        built = tiny.built(tmp_path, *sets)
        built.step.train_state.clock["progress"] = mx.array(0.0)
        sums = built.step.gradient([{"tokens": tokens}], mx.random.split(mx.random.key(0), 1))
        found.append(dict(tree_flatten(sums["grads"])))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert mx.array_equal(gradient, found[1][name]), name


PEAK = """
import sys
import mlx_transformers
import mlx.core as mx, mlx.nn as nn
from mlx_transformers.core.weights_first import weights_first

layers = [nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 64)) for _ in range(24)]
model = nn.Sequential(*layers)
x = mx.zeros((4096, 64))

def loss(model, x):
    for layer in layers:
        def f(x, layer=layer):
            return x + layer.layers[1](layer.layers[0](x))
        x = (weights_first([layer], f) if sys.argv[1] == "ordered" else f)(x)
    return x.square().sum()

mx.eval(model.parameters(), x)
mx.reset_peak_memory()
mx.eval(nn.value_and_grad(model, loss)(model, x))
print(mx.get_peak_memory() / x.nbytes)
"""


def test_activations_are_freed_with_their_block_where_graphs_are_walked_wide() -> None:
    """Gradients of a wide hidden layer don't wait for the end of the backward pass."""
    if mx.default_device() != mx.cpu:
        pytest.skip("a GPU computes here")
    peaks = {}
    for order in ("ordered", "any"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, order],
            env={**os.environ, "MLX_BFS_MAX_WIDTH": "1000"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks[order] = float(done.stdout)
    assert peaks["ordered"] < 0.8 * peaks["any"], peaks
