"""Jobs that go wrong, are stopped, or go on: what each rank does then."""

import json
from pathlib import Path

import pytest
from train import tiny

from mlx_transformers.verbs.finetune import finetune

from . import group

LONG = ("train.steps=100000", "checkpoint.every=5", "checkpoint.keep=100")
ARRAYS = "mlx_transformers.trainer.loop/arrays"
"""Called once before the first step, and once for every microbatch."""


def both(folder: Path, *sets: str, dies: int, call: int, name: str) -> list[group.Rank]:
    """Two ranks, of which one sends itself a signal at its n-th batch."""
    words = tiny.words(folder, *sets, name="two")
    one = group.mlxt(*words, at=ARRAYS, call=call, name=name)
    return group.launch(folder, [one if r == dies else group.mlxt(*words) for r in (0, 1)])


@pytest.mark.parametrize("dies", [0, 1])
def test_a_rank_that_is_killed_ends_the_job_with_a_sentence(tmp_path: Path, dies: int) -> None:
    ranks = both(tmp_path, *LONG, dies=dies, call=20, name="SIGKILL")
    assert ranks[dies].code == -9
    left = ranks[1 - dies]
    assert left.code == 1
    assert f"rank {1 - dies} of 2 ends too" in left.err
    assert "--resume auto" in left.err
    assert "Traceback" not in left.err
    assert left.seconds < 30
    assert (group.run(tmp_path) / "checkpoints/step-000015/MANIFEST").exists()


@pytest.mark.parametrize(("asked", "name", "code"), [(0, "SIGTERM", 143), (1, "SIGINT", 130)])
def test_a_signal_to_any_rank_saves_and_stops_all(
    tmp_path: Path, asked: int, name: str, code: int
) -> None:
    ranks = both(tmp_path, *LONG, dies=asked, call=10, name=name)
    assert [rank.code for rank in ranks] == [code, code], ranks
    assert f"stopped by {name} at step 11" in ranks[0].out
    assert (group.run(tmp_path) / "checkpoints/last").read_text() == "step-000011\n"
    assert ranks[1].out == ranks[1].err == ""


def test_a_job_goes_on_exactly_after_it_was_killed(tmp_path: Path) -> None:
    """Dropout is on: masks come from the step and the rank. Rank 1 has no checkpoint to read."""
    sets = ("train.steps=12", "checkpoint.every=5", "eval.every=4", "train.ema=0.9")
    both(tmp_path, *sets, dies=1, call=9, name="SIGKILL")
    assert (group.run(tmp_path) / "checkpoints/last").read_text() == "step-000005\n"
    ranks = group.train(tmp_path, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    whole = group.train(tmp_path, *sets, name="whole")
    assert [rank.code for rank in whole] == [0, 0], whole
    paths = [group.run(tmp_path, name) for name in ("two", "whole")]
    files = [path / "checkpoints/step-000012" for path in paths]
    for file in files[1].glob("*.safetensors"):
        assert (files[0] / file.name).read_bytes() == file.read_bytes(), file.name
    ours, theirs = (group.series(path, "train_loss", "grad_norm").tolist() for path in paths)
    assert ours == theirs


def test_only_rank_0_writes_and_talks(tmp_path: Path) -> None:
    ranks = group.train(tmp_path)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert ranks[0].out.count("Iter 6: Train loss") == 1
    assert ranks[1].out == ranks[1].err == ""
    assert list(group.home(tmp_path, 1).iterdir()) == []
    again = group.train(tmp_path)
    assert [rank.code for rank in again] == [0, 0], again
    assert "has all of its 6 steps already" in again[0].out
    assert again[1].out == again[1].err == ""


def test_one_process_continues_what_two_began(tmp_path: Path) -> None:
    sets = ("model.embed.dropout=0.0", "model.block.dropout=0.0", "train.steps=6")
    more = (*sets[:2], "train.steps=9", "optim.schedule={kind='constant'}")
    sets = (*sets, "optim.schedule={kind='constant'}")
    ranks = group.train(tmp_path, *sets)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    rank0 = group.home(tmp_path, 0) / "runs"
    went_on = tiny.run(tmp_path, *more, name="two", resume="auto", root=rank0)
    whole = tiny.run(tmp_path, *more, name="whole")
    assert went_on.progress.step == 9
    ours, theirs = (
        group.series(result.folder.path, "train_loss")[:, 1] for result in (went_on, whole)
    )
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("there", [0, 1])
def test_a_rank_does_not_wait_for_ever_for_one_that_never_comes(tmp_path: Path, there: int) -> None:
    words = group.mlxt(*tiny.words(tmp_path, name="two"))
    programs = [words if rank == there else None for rank in (0, 1)]
    (rank,) = group.launch(tmp_path, programs, MLXT_JOIN_SECONDS="2")
    assert rank.code == -9
    assert f"Rank {there} has waited 2 s for the other processes" in rank.err
    assert not list(tmp_path.glob("rank*/runs/*"))


def differing(folder: Path, *sets: str) -> list[group.Rank]:
    """Two ranks, of which the second has other settings."""
    words = [tiny.words(folder, *each, name="two") for each in ((), sets)]
    return group.launch(folder, [group.mlxt(*each) for each in words])


def test_ranks_with_other_recipes_do_not_begin(tmp_path: Path) -> None:
    for rank in differing(tmp_path, "train.seed=4", "optim.learning_rate=0.5"):
        assert rank.code == 1
        assert "train.seed: 3 on rank 0, 4 on rank 1" in rank.err
        assert "optim.learning_rate: 0.01 on rank 0, 0.5 on rank 1" in rank.err
    assert not list(tmp_path.glob("rank*/runs/*"))


def test_ranks_with_other_texts_do_not_begin(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(tiny.text(400, seed=9))
    for rank in differing(tmp_path, f"data.path={other}"):
        assert rank.code == 1
        assert "fingerprint of the text and its tokenizer: " in rank.err
    assert not list(tmp_path.glob("rank*/runs/*"))


def test_an_error_of_the_one_that_leads_ends_those_who_follow(tmp_path: Path) -> None:
    """The run is there already, which only rank 0 can see."""
    (group.home(tmp_path, 0) / "runs/two").mkdir(parents=True)
    (group.home(tmp_path, 0) / "runs/two/recipe.toml").write_text("")
    words = tiny.words(tmp_path, name="two", resume=None)
    leads, follows = group.launch(tmp_path, [group.mlxt(*words)] * 2)
    assert leads.code == follows.code == 1
    assert "A run 'two' exists already" in leads.err
    assert "rank 1 of 2 ends too" in follows.err
    assert follows.seconds < 30


def test_rows_that_cannot_be_shared_are_named_with_the_cure(tmp_path: Path) -> None:
    for key, cure in (("train.batch_size=5", "4 or 6"), ("eval.batch_size=1", "Take 2.")):
        for rank in group.train(tmp_path, key):
            assert rank.code == 1
            assert key.replace("=", " = ") in rank.err
            assert cure in rank.err


EXCHANGE = """
import json, sys
import mlx_transformers, mlx.core as mx
from mlx_transformers.distributed import launch, processes
processes.BUCKET_BYTES = 64
with launch.join_job() as ranks:
    r = ranks.rank + 1
    tree = {
        "a": [mx.full((3, 5), r), mx.array(r, mx.int32)],
        "b": {"c": mx.full((30,), 0.5 * r), "d": mx.array([r], mx.uint64), "e": mx.zeros((0,))},
    }
    summed, copied = ranks.all_reduce(tree), ranks.broadcast(tree)
    values = ranks.gather({"text": "é" * r, "number": 0.1 * r, "nan": float("nan")})
    found = [summed["a"], summed["b"], copied["a"], copied["b"]]
    shown = processes.tree_map(lambda x: [str(x.dtype), x.tolist()], found)
    print(json.dumps([shown, values, ranks.is_main, ranks.world]))
"""


def test_three_ranks_sum_copy_and_gather(tmp_path: Path) -> None:
    """Of mixed dtypes, in buffers smaller than some of the arrays."""
    ranks = group.launch(tmp_path, [["-c", EXCHANGE]] * 3)
    assert [rank.code for rank in ranks] == [0, 0, 0], ranks
    for number, rank in enumerate(ranks):
        (sums, more, copies, copied), values, leads, world = json.loads(rank.out)
        assert sums == [["mlx.core.int32", [[6] * 5] * 3], ["mlx.core.int32", 6]]
        assert more["c"] == ["mlx.core.float32", [3.0] * 30]
        assert more["d"] == ["mlx.core.uint64", [6]]
        assert more["e"] == ["mlx.core.float32", []]
        assert copies[0] == ["mlx.core.int32", [[1] * 5] * 3]
        assert copied["c"] == ["mlx.core.float32", [0.5] * 30]
        assert [value["text"] for value in values] == ["é", "éé", "ééé"]
        assert [value["number"] for value in values] == [0.1, 0.2, 0.1 * 3]
        assert leads is (number == 0)
        assert world == 3


def test_every_rank_begins_with_the_weights_that_rank_0_took(tmp_path: Path) -> None:
    """No dropout, so that two ranks are one process; with the weights of its seed rank 1 would
    have other gradients."""
    sets = ("model.embed.dropout=0.0", "model.block.dropout=0.0")
    source = tiny.run(tmp_path, *sets, "train.seed=9", name="source").folder.path
    words = ["finetune", str(source), *tiny.words(tmp_path, *sets, name="two")[1:]]
    ranks = group.launch(tmp_path, [group.mlxt(*words)] * 2)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    assert "arrays come from" in ranks[0].out
    assert ranks[1].out == ranks[1].err == ""
    one = finetune(
        source, tmp_path / "tiny.toml", set=sets, name="one", root=tmp_path, say=lambda text: None
    )
    paths = (group.run(tmp_path), one.folder.path)
    ours, theirs = (group.series(path, "train_loss")[:, 1] for path in paths)
    assert ours == pytest.approx(theirs, rel=1e-5)
