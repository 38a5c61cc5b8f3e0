"""Processes that share the layers of a model learn what one process does."""

import json
from pathlib import Path

import numpy as np
import pytest
from train import tiny

from mlx_transformers.core.errors import RecipeError, RunError

from . import group
from .test_equal import OFTEN, STILL, assert_equal, weights
from .test_jobs import LONG, both

SHARED = "train.tensor_parallel=2"
CONSTANT = "optim.schedule={kind='constant'}"
MIXER = "model.block.mixer"

SETS = {
    "glu, key/value heads and their norms, sinks, biases": (
        f"{MIXER}.n_heads=4",
        f"{MIXER}.n_kv_heads=2",
        f"{MIXER}.qk_norm={{kind='rms_norm'}}",
        f"{MIXER}.sinks=true",
        f"{MIXER}.bias=true",
        f"{MIXER}.out_bias=true",
        "train.accumulate=2",
    ),
    "mlp, recomputed, an average, lion": (
        "model.block.ffn={kind='mlp', hidden_dim=24, activation='gelu', bias=true}",
        "train.recompute='all'",
        "train.ema=0.9",
        "optim={kind='lion', learning_rate=1e-3}",
    ),
}


def ended(ranks: list[group.Rank]) -> None:
    assert [rank.code for rank in ranks] == [0, 0], ranks


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS.keys())
def test_two_that_share_layers_equal_one(tmp_path: Path, sets: tuple[str, ...]) -> None:
    ended(group.train(tmp_path, *STILL, *OFTEN, SHARED, *sets))
    one = tiny.run(tmp_path, *STILL, *OFTEN, *sets, name="one")
    assert_equal(group.run(tmp_path), one.folder.path)


def losses(path: Path) -> np.ndarray:
    return group.series(path, "train_loss")[:, 1]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """One process goes on where two stopped, and two where one did; samples are written too."""
    sets = (*STILL, CONSTANT, "train.ema=0.9", "log.sample_every=3", "log.sample_prompt='a'")
    longer = (*sets, "train.steps=9")
    rank0 = group.home(tmp_path, 0) / "runs"
    whole = tiny.run(tmp_path, *longer, name="whole").folder.path
    ended(group.train(tmp_path, *sets, SHARED, "train.steps=5"))
    tiny.run(tmp_path, *sets, "train.steps=7", name="two", resume="auto", root=rank0)
    ended(group.train(tmp_path, *longer, SHARED))
    two = group.run(tmp_path)
    np.testing.assert_allclose(losses(two), losses(whole), rtol=1e-5)
    for name in ("model", "optimizer", "ema"):
        ours, theirs = (weights(path, name) for path in (two, whole))
        assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in theirs.items()}
    samples = [[r for r in records(path) if "sample" in r] for path in (two, whole)]
    assert samples[0] == samples[1] != []


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


def test_a_signal_to_one_that_shares_layers_stops_both(tmp_path: Path) -> None:
    ranks = both(tmp_path, *LONG, SHARED, dies=1, call=10, name="SIGTERM")
    assert [rank.code for rank in ranks] == [143, 143], ranks
    assert "stopped by SIGTERM at step 11" in ranks[0].out


PARTS = """
import json, sys
import mlx_transformers, mlx.core as mx, numpy as np
from mlx.utils import tree_flatten
from mlx_transformers.assembly.build import build
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.distributed import launch, processes
with launch.join_job() as everyone:
    ranks = processes.tensor_parallel_ranks(everyone, 2)
    step = build(load_recipe(sys.argv[1], sys.argv[2:]), ranks=ranks).step
    step.train_state.broadcast()
    for index in range(3):
        step([{"tokens": mx.array(np.random.default_rng(index).integers(0, 9, (4, 17)))}], index)
    leaves = dict(tree_flatten(step.train_state.trees()))
    axes = {name: leaf.shape[axis] for name, axis in step.train_state.tensor_parallel.axes.items()
            for leaf in [leaves[name]]}
    sums = {name: leaf.astype(mx.float32).sum().item() for name, leaf in leaves.items()}
    print(json.dumps([axes, ranks.gather(sums)]))
"""


def test_processes_have_halves_of_their_own_and_the_rest_alike(tmp_path: Path) -> None:
    """Dropout is on: what all have must get the same masks, or it would drift apart."""
    norm = f"{MIXER}.qk_norm={{kind='rms_norm'}}"
    sets = (SHARED, norm, f"{MIXER}.dropout=0.2", "model.block.ffn.dropout=0.2")
    words = ["-c", PARTS, str(tiny.write(tmp_path)), *sets]
    ranks = group.launch(tmp_path, [words] * 2)
    ended(ranks)
    sizes, (first, second) = json.loads(ranks[0].out)
    halves = {name.rpartition("blocks.")[2] for name in sizes if name.startswith("model.")}
    linear = {f"mixer.{name}" for name in "qkvo"} | {f"ffn.{n}" for n in ("gate", "up", "down")}
    assert halves == {f"{block}.{name}.weight" for block in (0, 1) for name in linear}
    assert set(sizes.values()) == {8, 12}  # of 16 features and 24 hidden ones
    assert {name for name in first if first[name] != second[name]} == set(sizes)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((f"{MIXER}.n_heads=1",), "mixer.n_heads = 1 can't be shared evenly by 2"),
        ((f"{MIXER}.n_kv_heads=1",), "mixer.n_kv_heads = 1 can't be shared evenly by 2"),
        (("model.block.ffn.hidden_dim=25",), "ffn.hidden_dim = 25 can't be shared evenly by 2"),
        ((tiny.moe(),), "ffn.kind = 'moe' can't be shared out"),
        (("model.position={kind='alibi'}",), "position.kind = 'alibi' adds to the scores"),
        (
            (f"{MIXER}.qk_norm={{kind='rms_norm'}}", f"{MIXER}.qk_norm_over='width'"),
            "mixer.qk_norm_over = 'width' can't be shared out",
        ),
        (("optim={kind='muon', learning_rate=0.02}",), "optim.kind = 'muon' as it is set"),
        (("optim.state='int8'",), "optim.kind = 'adamw' as it is set"),
        (("train.clip={kind='adaptive'}",), "clip.kind = 'adaptive' looks at whole rows"),
        (("train.shard_optimizer=true",), "set one of them"),
        ((), "this job has 1. Start 2"),
    ],
)
def test_what_cannot_be_shared_is_named(tmp_path: Path, sets: tuple[str, ...], said: str) -> None:
    with pytest.raises((RecipeError, RunError), match=said):
        tiny.run(tmp_path, SHARED, *sets)


def test_a_job_of_another_size_is_refused(tmp_path: Path) -> None:
    for rank in group.train(tmp_path, "train.tensor_parallel=4", f"{MIXER}.n_heads=4"):
        assert rank.code == 1
        assert "this job has 2. Tensor and data parallelism" in rank.err
        assert "or set it to 2, or set it to 1" in rank.err
