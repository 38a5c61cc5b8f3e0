"""Saved trees in new objects: bit-identical continuation, and faults by name."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import CheckpointError
from mlx_transformers.optim.adafactor import Adafactor
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.clip import clip_global_norm
from mlx_transformers.optim.ema import Ema
from mlx_transformers.optim.finite import update_if
from mlx_transformers.optim.lion import Lion
from mlx_transformers.optim.muon import Muon
from mlx_transformers.optim.schedules import Cosine
from mlx_transformers.optim.sgd import Sgd
from mlx_transformers.runs.checkpoint import load, save
from mlx_transformers.runs.restore import restore_model, restore_state

SCHEDULE = Cosine(warmup=2)
CONFIGS = [
    Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.1, schedule=SCHEDULE),
    AdamW(learning_rate=1e-2, weight_decay=0.1, schedule=SCHEDULE),
    Adafactor(beta1=0.9),
    Lion(learning_rate=1e-3, weight_decay=0.1, schedule=SCHEDULE),
    Muon(learning_rate=0.02, weight_decay=0.1, rest=("embed",), schedule=SCHEDULE),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.blocks = [nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in "ab"]

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.embed.as_linear(x)


class Run:
    """A model, an optimizer, an average, and the compiled step that captured them."""

    def __init__(self, config, seed):
        mx.random.seed(seed)
        self.model = Net()
        mx.eval(self.model.parameters())
        self.optimizer = config.build(self.model, 10)
        self.ema = Ema(self.model.trainable_parameters(), decay=0.9)
        gradients = nn.value_and_grad(self.model, self.loss)
        state = [self.model.state, self.optimizer.state, self.ema.state]

        def step(x):
            value, grads = gradients(self.model, x)
            grads, norm = clip_global_norm(grads, 1.0)
            update_if(mx.isfinite(norm), self.optimizer, self.model, grads)
            self.ema.update(self.model.trainable_parameters())
            return value

        self.step = mx.compile(step, inputs=state, outputs=state)

    @staticmethod
    def loss(model, x):
        return nn.losses.cross_entropy(model(x), (3 * x + 1) % 8).mean()

    def train(self, steps):
        return [self.step((mx.arange(8) * s) % 8).item() for s in steps]

    @property
    def trees(self):
        return {
            "model": self.model.parameters(),
            "optimizer": self.optimizer.state,
            "ema": self.ema.state,
        }

    def restore(self, trees):
        restore_model(self.model, trees["model"])
        restore_state(self.optimizer.state, trees["optimizer"], "optimizer")
        restore_state(self.ema.state, trees["ema"], "average")


def leaves(tree):
    return {path: np.array(leaf) for path, leaf in tree_flatten(tree)}


@pytest.mark.parametrize("traced_before", [False, True], ids=["untraced", "traced"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.kind)
def test_a_restored_run_goes_on_bit_by_bit(tmp_path, config, traced_before):
    """New objects, also ones whose step was already traced: captured containers stay."""
    whole = Run(config, seed=0)
    whole.train(range(4))
    path = save(tmp_path, 4, whole.trees, {})
    losses = whole.train(range(4, 8))

    resumed = Run(config, seed=1)
    if traced_before:
        resumed.train(range(2))
    resumed.restore(load(path)[0])
    assert resumed.train(range(4, 8)) == losses
    expected = leaves(whole.trees)
    for name, leaf in leaves(resumed.trees).items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_every_tensor_that_does_not_fit_is_named():
    model = Net()
    before = leaves(model.parameters())
    saved = Net().parameters()
    del saved["blocks"][0]["layers"][0]["bias"]
    saved["head"] = {"weight": mx.zeros((2,))}
    saved["embed"]["weight"] = mx.zeros((9, 4))
    saved["blocks"][1]["layers"][2]["weight"] = mx.zeros((4, 6), mx.bfloat16)
    with pytest.raises(CheckpointError) as error:
        restore_model(model, saved)
    text = str(error.value)
    assert "missing from the checkpoint: blocks.0.layers.0.bias" in text
    assert "not in this run: head.weight" in text
    assert "embed.weight (checkpoint [9, 4] float32, here [8, 4] float32)" in text
    assert "blocks.1.layers.2.weight (checkpoint [4, 6] bfloat16, here [4, 6] float32)" in text
    for name, leaf in leaves(model.parameters()).items():
        np.testing.assert_array_equal(leaf, before[name])


def test_the_state_of_another_optimizer_is_refused_and_changes_nothing():
    model = Net()
    adamw = AdamW(learning_rate=1e-3).build(model, 10)
    before = leaves(adamw.state)
    with pytest.raises(CheckpointError, match=r"optimizer doesn't fit.*embed\.weight\.v"):
        restore_state(adamw.state, Lion(learning_rate=1e-3).build(model, 10).state, "optimizer")
    after = leaves(adamw.state)
    assert after.keys() == before.keys()


def test_empty_containers_of_an_older_checkpoint_are_left_out():
    live = {"a": {"m": mx.array(0)}, "b": [mx.array(0)]}
    inner = live["a"]
    restore_state(live, {"a": {"m": mx.array(1)}, "b": [mx.array(2), {}], "gone": {}}, "optimizer")
    assert live["a"] is inner
    assert {name: leaf.item() for name, leaf in tree_flatten(live)} == {"a.m": 1, "b.0": 2}
    assert live.keys() == {"a", "b"}


def test_a_long_list_of_faults_stays_on_one_screen():
    with pytest.raises(CheckpointError, match="and 28 more") as error:
        restore_state({}, {f"t{i}": mx.array(i) for i in range(40)}, "model")
    assert len(str(error.value)) < 400
