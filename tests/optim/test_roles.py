"""Parameters by their declared roles: what draws them, decays them, and sets their rate."""

from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.layers.init import FanIn, Normal, Xavier
from mlx_transformers.layers.linear import ResidualLinear
from mlx_transformers.layers.parameter import Place, Role, layers_above, parameters_of
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.lion import Lion
from mlx_transformers.optim.muon import Muon
from mlx_transformers.optim.sgd import Sgd

SQUARE = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)


class Scan(nn.Module):
    """A toy state-space mixer: decays [D, N] and a step bias with starts of their own."""

    roles: ClassVar[dict[str, Role]] = {"A_log": "own", "dt_bias": "own", "D": "vector"}

    def __init__(self):
        super().__init__()
        self.A_log = mx.array(SQUARE)
        self.dt_bias = mx.array([0.5, -0.5])
        self.D = mx.ones((3,))
        self.o = ResidualLinear(4, 4)
        self._cache = mx.zeros((2, 2))  # private, so no parameter


class Blocks(nn.Module):
    places: ClassVar[dict[str, Place]] = {"embed": "below", "blocks": "layers"}

    def __init__(self, n):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.blocks = [Scan() for _ in range(n)]
        self.norm = nn.RMSNorm(4)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.head = Blocks(1), Blocks(2), nn.Linear(4, 5)


def flat(model):
    return {name: np.array(array) for name, array in tree_flatten(model.parameters())}


def own(model):
    return [p.path for p in parameters_of(model) if p.role == "own"]


def test_every_parameter_has_one_role():
    model = Two()
    found = {p.path: p for p in parameters_of(model)}
    assert found.keys() == flat(model).keys()
    assert found["decoder.blocks.1.A_log"].role == "own"
    assert found["encoder.embed.weight"].role == "table"
    assert found["encoder.blocks.0.o.bias"].role == "bias"
    assert found["decoder.norm.weight"].role == "vector"
    assert [p.path for p in found.values() if p.writes_residual] == [
        f"{stack}.o.weight"
        for stack in ("decoder.blocks.0", "decoder.blocks.1", "encoder.blocks.0")
    ]


@pytest.mark.parametrize("init", [Normal(std=0.1), FanIn(), Xavier()], ids=lambda c: c.kind)
def test_initialisation_leaves_own_parameters_and_vectors_alone(init):
    model = Two()
    before = flat(model)
    init.apply(model, 3)
    kept = {p.path for p in parameters_of(model) if p.role in ("own", "vector")}
    for name, array in flat(model).items():
        assert np.array_equal(array, before[name]) == (name in kept), name


@pytest.mark.parametrize(
    "config",
    [
        AdamW(learning_rate=0.1, weight_decay=0.5),
        AdamW(learning_rate=0.1, weight_decay=0.5, decay="all"),
        Lion(learning_rate=0.1, weight_decay=0.5, decay="all"),
        Sgd(learning_rate=0.1, weight_decay=0.5, decay="all"),
        Muon(learning_rate=0.1, weight_decay=0.5, decay="all"),
        Muon(learning_rate=0.1, weight_decay=0.5),
    ],
    ids=lambda c: f"{c.kind}-{c.decay}",
)
def test_own_parameters_are_not_decayed(config):
    model = Two()
    Normal(std=0.1).apply(model, 3)
    optimizer, before = config.build(model, 1), flat(model)
    optimizer.update(model, tree_map(mx.zeros_like, model.trainable_parameters()))
    after = flat(model)
    assert all(np.array_equal(after[name], before[name]) for name in own(model))
    assert not np.array_equal(after["head.weight"], before["head.weight"])
    moved = not np.array_equal(after["encoder.norm.weight"], before["encoder.norm.weight"])
    assert moved == (config.decay == "all")


def test_muon_leaves_own_matrices_and_tables_to_adamw():
    muon, *_ = Muon(learning_rate=0.1, rest=()).build(Two(), 1).state["states"]
    names = {name.removesuffix(".v") for name, _ in tree_flatten(muon) if name.endswith(".v")}
    assert names == {"head.weight", *(p.path for p in parameters_of(Two()) if p.writes_residual)}


def test_a_parameter_without_a_role_is_an_error():
    class Guess(nn.Module):
        def __init__(self):
            super().__init__()
            self.decay = mx.zeros((3,))

    with pytest.raises(TypeError, match="Guess declares no role for its parameter 'decay'"):
        list(parameters_of(Guess()))


def test_arrays_in_a_list_are_an_error():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.taps = [mx.zeros((3,))]

    with pytest.raises(TypeError, match=r"Listed\.taps holds arrays in a list"):
        list(parameters_of(Listed()))


def test_layers_are_counted_in_every_stack():
    above = layers_above(Two())
    assert above["encoder.blocks.0.A_log"] == 1
    assert (above["decoder.blocks.0.D"], above["decoder.blocks.1.D"]) == (2, 1)
    assert above["encoder.embed.weight"] == above["decoder.embed.weight"] == 3
    assert above["head.weight"] == above["encoder.norm.weight"] == 0
