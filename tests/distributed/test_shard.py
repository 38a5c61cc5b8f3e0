"""The state of an optimizer shared out among ranks: equal to the bit, whole on disk."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from train import tiny

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import CheckpointError
from mlx_transformers.distributed.processes import Ranks
from mlx_transformers.distributed.zero import Sharded, partition
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.muon import Muon

from . import group
from .test_equal import STILL

SHARDED = "train.shard_optimizer=true"
CONSTANT = "optim.schedule={kind='constant'}"

SETS = {
    "adamw": ("train.accumulate=2", "train.ema=0.9"),
    "muon": ("optim={kind='muon', learning_rate=0.02, weight_decay=0.1}",),
    "moments in bfloat16, float16": ("train.dtype='float16'", "optim.state='bfloat16'"),
}


def files(path: Path) -> dict[str, bytes]:
    """The arrays of the last checkpoint."""
    last = path / "checkpoints" / (path / "checkpoints/last").read_text().strip()
    return {file.name: file.read_bytes() for file in last.glob("*.safetensors")}


def ended(ranks: list[group.Rank]) -> None:
    assert [rank.code for rank in ranks] == [0, 0], ranks


@pytest.mark.parametrize("name", SETS)
def test_shares_change_nothing(tmp_path: Path, name: str) -> None:
    """Weights of all kinds and moments too, but for moments whose rounding draws by position."""
    for run, more in (("whole", ()), ("shared", (SHARDED,))):
        ended(group.train(tmp_path, *SETS[name], *more, name=run))
    whole, shared = (files(group.run(tmp_path, run)) for run in ("whole", "shared"))
    assert whole.keys() == shared.keys()
    if "bfloat16" not in name:
        assert whole == shared
    losses = [group.series(group.run(tmp_path, n), "train_loss") for n in ("whole", "shared")]
    np.testing.assert_allclose(*losses, rtol=1e-5 if "bfloat16" not in name else 1e-2)


def test_two_ranks_go_on_exactly_and_so_does_one(tmp_path: Path) -> None:
    """Rank 1 has no checkpoint to read; one process alone has no shares."""
    sets = (*STILL, SHARDED, CONSTANT)
    ended(group.train(tmp_path, *sets, "train.steps=9", name="whole"))
    for run in ("two", "one"):
        ended(group.train(tmp_path, *sets, "train.steps=5", name=run))
    ended(group.train(tmp_path, *sets, "train.steps=9", name="two"))
    assert files(group.run(tmp_path, "two")) == files(group.run(tmp_path, "whole"))
    rank0 = group.home(tmp_path, 0) / "runs"
    tiny.run(tmp_path, *sets, "train.steps=9", name="one", resume="auto", root=rank0)
    one, whole = (group.series(rank0 / name, "train_loss")[:, 1] for name in ("one", "whole"))
    np.testing.assert_allclose(one, whole, rtol=1e-5)


def test_two_ranks_take_over_from_one(tmp_path: Path) -> None:
    sets = (*STILL, CONSTANT)
    rank0 = group.home(tmp_path, 0) / "runs"
    tiny.run(tmp_path, *sets, "train.steps=5", name="two", root=rank0)
    ended(group.train(tmp_path, *sets, SHARDED, "train.steps=9"))
    whole = tiny.run(tmp_path, *sets, "train.steps=9", name="whole").folder.path
    ours, theirs = (group.series(p, "train_loss")[:, 1] for p in (rank0 / "two", whole))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


class Net(nn.Module):
    """Parameters of unequal sizes, some in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.layers = [nn.Linear(8, 8) for _ in range(5)]


class Apart(Ranks):
    """A rank that exchanges nothing, to be looked at alone."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world


@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_every_parameter_has_one_keeper_and_shares_are_even(world: int) -> None:
    parameters = Net().parameters()
    found = partition(parameters, world)
    sizes = {name: leaf.nbytes for name, leaf in tree_flatten(parameters)}
    assert sorted(name for names in found for name in names) == sorted(sizes)
    loads = [sum(sizes[name] for name in names) for names in found]
    assert max(loads) <= sum(sizes.values()) / world + max(sizes.values())
    assert loads[0] == max(loads)


@pytest.mark.parametrize("config", [AdamW, Muon])
def test_a_rank_keeps_its_share_of_the_state(config: type) -> None:
    config = config(learning_rate=1e-3, weight_decay=0.1)
    model = Net()
    whole = state_bytes(config.build(model, 5))
    each = []
    for rank in range(2):
        optimizer = Sharded(lambda: config.split(model, 5), Apart(rank, 2))
        optimizer.init(model.parameters())
        each.append(state_bytes(optimizer))
    assert sum(each) == whole
    assert max(each) < 0.7 * whole


def state_bytes(optimizer: object) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(optimizer.state) if leaf.ndim)


def test_another_models_state_is_refused() -> None:
    model = Net()
    optimizer = Sharded(lambda: AdamW(learning_rate=1e-3).split(model, 5), Apart(0, 2))
    optimizer.init(model.parameters())
    with pytest.raises(CheckpointError, match="optimizer doesn't fit: missing"):
        optimizer.stage({"step": mx.array(0, mx.uint64)})
