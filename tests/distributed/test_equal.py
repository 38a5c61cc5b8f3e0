"""Several ranks train as one process with the same batch does."""

import json
import random
import re
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from train import tiny

from mlx_transformers.distributed.processes import Ranks

from . import group

STILL = ("model.embed.dropout=0.0", "model.block.dropout=0.0")
"""No dropout: its masks are other ones on other ranks."""
OFTEN = ("eval.every=3", "checkpoint.every=3")

SETS = {
    "one microbatch": (),
    "three microbatches": ("train.accumulate=3",),
    "an average of the weights": ("train.ema=0.9",),
    "float16": ("train.dtype='float16'",),
    "experts": (tiny.moe(balance=0.0),),
    "adaptive clipping": ("train.clip={kind='adaptive'}",),
}


def weights(path: Path, name: str = "model") -> dict[str, np.ndarray]:
    """The arrays of a run's last checkpoint."""
    last = path / "checkpoints" / (path / "checkpoints/last").read_text().strip()
    return {
        key: np.array(value) for key, value in mx.load(str(last / f"{name}.safetensors")).items()
    }


def assert_equal(two: Path, one: Path, tolerance: float = 1e-5) -> None:
    """The same losses, norms and weights."""
    for keys in (("train_loss", "grad_norm"), ("val_loss", "val_bpb", "val_tokens")):
        np.testing.assert_allclose(
            group.series(two, *keys), group.series(one, *keys), rtol=tolerance, atol=tolerance
        )
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(
            value, theirs[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS.keys())
def test_two_ranks_equal_one(tmp_path: Path, sets: tuple[str, ...]) -> None:
    ranks = group.train(tmp_path, *STILL, *OFTEN, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    one = tiny.run(tmp_path, *STILL, *OFTEN, *sets, name="one")
    assert one.is_main
    tolerance = 1e-3 if "float16" in str(sets) else 1e-5
    assert_equal(group.run(tmp_path), one.folder.path, tolerance)
    if "ema" in str(sets):
        ours, theirs = (weights(p, "ema") for p in (group.run(tmp_path), one.folder.path))
        assert max(np.abs(ours[name] - theirs[name]).max() for name in ours) < 1e-5


def test_two_ranks_equal_one_on_rows_of_unequal_weight(tmp_path: Path) -> None:
    """Borders of documents are not predicted across, so ranks have unequal numbers of tokens."""
    draw = random.Random(1)
    lines = [json.dumps({"text": tiny.text(draw.randint(1, 12), seed)}) for seed in range(150)]
    (tmp_path / "ragged.jsonl").write_text("\n".join(lines))
    sets = (*STILL, *OFTEN, f"data.path={tmp_path}/ragged.jsonl", "data.mask_documents=true")
    sets += ("train.accumulate=2",)
    ranks = group.train(tmp_path, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    one = tiny.run(tmp_path, *sets, name="one")
    lengths = np.diff(tiny.built(tmp_path, *sets).data.boundaries("train"))
    assert len(set(lengths)) > 5
    assert_equal(group.run(tmp_path), one.folder.path)


def test_a_balance_loss_is_each_ranks_own(tmp_path: Path) -> None:
    """It is no sum over tokens: the first loss is the same, what is learned nearly so."""
    sets = (*STILL, *OFTEN, tiny.moe(balance=0.1))
    ranks = group.train(tmp_path, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    one = tiny.run(tmp_path, *sets, name="one")
    ours, theirs = (group.series(p, "train_loss") for p in (group.run(tmp_path), one.folder.path))
    assert ours[0, 1] == pytest.approx(theirs[0, 1], rel=1e-5)
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)
    assert np.abs(ours[-1] - theirs[-1]).max() > 0


class Apart(Ranks):
    """A rank that exchanges nothing, to be looked at alone."""

    def __init__(self, rank: int) -> None:
        self.rank, self.world = rank, 2


@pytest.mark.parametrize(("sets", "equal"), [((), False), (STILL, True)], ids=["dropout", "none"])
def test_ranks_drop_other_units_of_the_same_row(
    tmp_path: Path, sets: tuple[str, ...], equal: bool
) -> None:
    batch = {"tokens": mx.array(tiny.tokens((2, 17), 10))}
    found = []
    for ranks in (Apart(0), Apart(1)):
        step = tiny.built(tmp_path, *sets).step
        step.train_state.ranks = ranks
        found.append(step([batch], 7)["loss"].item())
    assert (found[0] == found[1]) is equal


def test_dropout_learns_alike_with_two_ranks(tmp_path: Path) -> None:
    """Other masks, so equal only on average, as one process with another seed would be."""
    sets = ("train.steps=60", "optim.schedule={kind='constant'}")
    ranks = group.train(tmp_path, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    one = tiny.run(tmp_path, *sets, name="one")
    ours, theirs = (
        group.series(p, "train_loss")[:, 1] for p in (group.run(tmp_path), one.folder.path)
    )
    assert abs(ours - theirs).max() > 0
    assert ours[-20:].mean() == pytest.approx(theirs[-20:].mean(), rel=0.1)
    assert re.search(r'"processes": 2', (group.run(tmp_path) / "environment.json").read_text())
