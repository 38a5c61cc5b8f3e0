"""Going on with a run: what may change, what may not, and what is left alone."""

import os
import shutil

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from mlx_transformers.assembly.build import Built
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import CheckpointError, MlxtError, RunError
from mlx_transformers.recipe.show import diff
from mlx_transformers.runs import checkpoint as ck
from mlx_transformers.runs import folder as folders
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.runs.tensors import digest as digest_of
from mlx_transformers.verbs.evaluate import evaluate
from mlx_transformers.verbs.train import train

from . import tiny

EVERY = ("checkpoint.every=2", "checkpoint.keep=3", "optim.schedule={kind='constant'}")


def content(folder):
    """Every file's bytes, by path."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights(result, step=None):
    path = result.folder.checkpoints / f"step-{step:06d}" if step else result.folder.newest()
    return (path / "model.safetensors").read_bytes()


def steps(result):
    return [step for step, _ in tiny.records(result, "train_loss")]


@pytest.mark.parametrize(
    "sets",
    [
        ("train.ema=0.9", "train.accumulate=2"),
        ("train.dtype='float16'",),
        (tiny.moe(), "data.mask_documents=true"),
        ('optim={kind="muon", learning_rate=0.02}',),
        ("optim.state='bfloat16'", "train.accumulate=2"),
        ("optim.state='int8'", "model.block.ffn.hidden_dim=256"),
    ],
    ids=["average", "float16", "experts", "muon", "bfloat16 state", "8-bit state"],
)
def test_a_longer_run_is_a_shorter_one_continued(tmp_path, sets):
    sets = [s for s in EVERY if not (s.startswith("optim") and sets[0].startswith("optim="))] + [
        *sets
    ]
    whole = tiny.run(tmp_path, *sets, name="whole")
    tiny.run(tmp_path, *sets, "train.steps=4", name="a")
    ended = tiny.run(tmp_path, *sets, name="a", resume="auto")
    names = sorted(p.name for p in whole.folder.newest().glob("*.safetensors"))
    for name in names:
        files = [(r.folder.newest() / name).read_bytes() for r in (whole, ended)]
        assert files[0] == files[1], name
    assert tiny.records(ended, "train_loss") == tiny.records(whole, "train_loss")
    assert ended.progress.tokens == whole.progress.tokens
    assert ended.traces <= whole.traces


def test_skipped_steps_that_no_report_has_read_are_not_forgotten(tmp_path, monkeypatch):
    """Saved at step 2, reported at step 3: the skip of step 1 must be in the checkpoint."""
    tiny.spoil(monkeypatch, {0})
    result = tiny.run(tmp_path, *EVERY, "log.every=3", name="a")
    state = ck.load(result.folder.checkpoints / "step-000002")[1]
    assert state["skipped"] == 1
    assert state["seconds"] > 0
    assert ck.load(result.folder.newest())[1]["skipped"] == 1


def test_a_finished_run_says_so_and_is_not_touched(tmp_path):
    first = tiny.run(tmp_path, *EVERY, name="a")
    before, said = content(first.folder.path), []
    again = tiny.run(tmp_path, *EVERY, name="a", resume="auto", say=said.append)
    assert again.reason == "finished"
    assert again.progress.cursor == first.progress.cursor
    assert again.progress.best_loss == first.progress.best_loss
    assert "all of its 6 steps already" in said[-1]
    assert content(first.folder.path) == before


def test_a_name_that_is_taken_is_refused_and_nothing_overwritten(tmp_path):
    first = tiny.run(tmp_path, *EVERY, name="a")
    before = content(tmp_path / "runs")
    with pytest.raises(RunError, match=r"'a' exists already.*--resume auto"):
        tiny.run(tmp_path, "train.steps=2", name="a")
    assert content(tmp_path / "runs") == before
    assert first.folder.path == tmp_path / "runs" / "a"


def test_runs_without_a_name_get_the_recipes_with_a_number(tmp_path):
    names = [tiny.run(tmp_path, "train.steps=1").folder.name for _ in range(3)]
    assert names == ["tiny", "tiny-2", "tiny-3"]


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, bad):
    with pytest.raises(RunError):
        tiny.run(tmp_path, "train.steps=1", name=bad)
    assert not list((tmp_path / "runs").glob("*"))


def test_another_recipe_is_refused_with_every_difference(tmp_path):
    first = tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    before = content(first.folder.path)
    with pytest.raises(RunError) as error:
        tiny.run(
            tmp_path, *EVERY, "optim.learning_rate=0.5", "model.dim=32", name="a", resume="auto"
        )
    text = str(error.value)
    assert "model.dim: 16 there, 32 here" in text
    assert "optim.learning_rate: 0.01 there, 0.5 here" in text
    assert "train.steps" not in text.splitlines()[1:-1]
    assert content(first.folder.path) == before


def test_length_and_habits_may_change(tmp_path):
    tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    changed = ("train.steps=6", "eval.every=3", "log.every=2", "checkpoint.every=3")
    sets = (*changed, *EVERY[1:])
    ended = tiny.run(tmp_path, *sets, name="a", resume="auto")
    assert ended.progress.step == 6
    assert steps(ended) == [1, 2, 4, 6]
    assert load_recipe(ended.folder.recipe).train.steps == 6


def test_other_text_is_refused(tmp_path):
    first = tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    (tmp_path / "text.txt").write_text(tiny.text(400, seed=1) + " xyz")
    before = content(first.folder.path)
    with pytest.raises(RunError, match="trained on other data"):
        tiny.run(tmp_path, *EVERY, name="a", resume="auto")
    assert content(first.folder.path) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the recipe, the result of a whole run, and a run `a` stopped at step 4."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXT_CACHE", str(folder / "cache"))
        whole = tiny.run(folder, *EVERY, name="whole")
        tiny.run(folder, *EVERY, "train.steps=4", name="a")
    return folder, whole


@pytest.fixture
def stopped(trained, tmp_path):
    """A copy of the run that was stopped at step 4, and of its recipe."""
    folder, _ = trained
    shutil.copy(folder / "tiny.toml", tmp_path)
    shutil.copytree(folder / "runs" / "a", tmp_path / "runs" / "a")
    return RunFolder(tmp_path / "runs" / "a")


@pytest.mark.parametrize("damage", [cut, flip, os.remove], ids=lambda f: f.__name__)
@pytest.mark.parametrize("file", ["model.safetensors", "MANIFEST", "state.json"])
def test_damage_is_named_and_the_checkpoint_before_offered(
    trained, stopped, tmp_path, damage, file
):
    _, whole = trained
    damaged = stopped.newest()
    damage(damaged / file)
    with pytest.raises(CheckpointError) as error:
        tiny.run(tmp_path, *EVERY, name="a", resume="auto")
    assert file in str(error.value)
    offered = stopped.checkpoints / "step-000002"
    assert f"{offered}" in str(error.value)
    with pytest.raises(CheckpointError) as again:
        tiny.run(tmp_path, *EVERY, resume=damaged)
    assert file in str(again.value)
    ended = tiny.run(tmp_path, *EVERY, resume=offered)
    assert ended.folder.path == stopped.path
    assert weights(ended) == weights(whole)
    assert tiny.records(ended, "train_loss") == tiny.records(whole, "train_loss")


@pytest.mark.parametrize("damage", [cut, flip])
def test_what_is_saved_after_a_damaged_checkpoint_is_the_newest(stopped, tmp_path, damage):
    """Stopped again before the step of the damaged one is reached."""
    damage(stopped.newest() / "model.safetensors")
    offered = stopped.checkpoints / "step-000002"
    tiny.run(tmp_path, *EVERY, "train.steps=3", resume=offered)
    assert stopped.newest().name == "step-000003"
    assert tiny.run(tmp_path, *EVERY, name="a", resume="auto").progress.step == 6


def test_a_run_is_continued_from_its_newest_checkpoint_and_loaded_from_its_best(tmp_path):
    first = tiny.run(tmp_path, *EVERY, "eval.every=2", "train.steps=4", name="a")
    ck.mark(first.folder.checkpoints, "best", first.folder.checkpoints / "step-000002")
    said = []
    ended = tiny.run(tmp_path, *EVERY, resume=first.folder.path, say=said.append)
    assert steps(ended) == [1, 2, 3, 4, 5, 6]
    ck.mark(first.folder.checkpoints, "best", first.folder.checkpoints / "step-000004")
    model, _ = load(first.folder.path)
    assert tiny.same(
        model.parameters(), ck.load(first.folder.checkpoints / "step-000004")[0]["model"]
    )


def test_a_run_is_found_by_its_folder_its_name_or_a_checkpoint(tmp_path):
    first = tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    ways = ["a", first.folder.path, first.folder.newest(), first.folder.checkpoints / "last"]
    for n, way in enumerate(ways, start=3):
        ended = tiny.run(tmp_path, *EVERY, f"train.steps={n}", resume=way)
        assert (ended.folder.path, ended.progress.step) == (first.folder.path, n)
    with pytest.raises(RunError, match=r"no run 'aa'.*Did you mean 'a'"):
        tiny.run(tmp_path, resume="aa")
    with pytest.raises(RunError, match=r"--name b"):
        tiny.run(tmp_path, resume="a", name="b")


def test_auto_starts_a_run_that_is_not_there(tmp_path):
    result = tiny.run(tmp_path, "train.steps=2", name="a", resume="auto")
    assert (result.reason, result.progress.step) == ("finished", 2)


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", ".recipe.toml.partial")], ids=str)
def test_a_run_killed_before_it_held_a_recipe_can_be_begun(tmp_path, left):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).touch()
    assert tiny.run(tmp_path, "train.steps=1", name="a", resume="auto").reason == "finished"


def test_a_folder_of_something_else_is_not_begun(tmp_path):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        tiny.run(tmp_path, "train.steps=1", name="a", resume="auto")
    assert content(folder) == {str(folder / "notes.txt"): b"mine"}


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    first = tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    before = content(first.folder.path)
    with first.folder.locked(), pytest.raises(RunError, match="being trained by another process"):
        tiny.run(tmp_path, *EVERY, name="a", resume="auto")
    assert content(first.folder.path) == before
    assert tiny.run(tmp_path, *EVERY, name="a", resume="auto").progress.step == 6


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(tmp_path):
    with pytest.raises(MlxtError):
        tiny.run(tmp_path, "train.seq_len=16", "data.path='nowhere.txt'", name="a")
    assert not (tmp_path / "runs" / "a").exists()


def test_the_newest_of_several_runs_is_the_one_saved_last(tmp_path):
    a = tiny.run(tmp_path, *EVERY, "train.steps=1", name="a")
    b = tiny.run(tmp_path, *EVERY, "train.steps=1", name="b")
    (tmp_path / "runs" / "c").mkdir()
    os.utime(a.folder.newest(), (2e9, 2e9))
    assert folders.find(None, tmp_path / "runs").name == "a"
    os.utime(b.folder.newest(), (3e9, 3e9))
    assert folders.find(None, tmp_path / "runs").name == "b"


def test_records_of_steps_that_are_done_again_go_and_others_stay(tmp_path):
    run = RunFolder(tmp_path)
    lines = ['{"step": 1, "x": 1.5}', '{"step": 2, "text": "é"}', '{"step": 2}', '{"step": 3}']
    run.log.write_text("\n".join(lines) + '\n{"step": 4, "tr', encoding="utf-8")
    run.forget_after(2)
    assert run.log.read_text(encoding="utf-8").splitlines() == lines[:3]
    run.forget_after(0)
    assert run.log.read_text() == ""


def test_the_recipe_of_a_run_is_the_recipe(tmp_path):
    given = tiny.recipe(tmp_path, *EVERY, tiny.moe())
    result = train(given, name="a", root=tmp_path / "runs", say=lambda text: None)
    read = load_recipe(result.folder.recipe)
    assert read.model_dump() == given.model_dump()
    assert diff(read, given) == []


def test_a_recipe_made_in_python_trains_and_resumes(tmp_path):
    given = tiny.recipe(tmp_path, *EVERY, "train.steps=2")
    bare = type(given).model_validate(given.model_dump())
    result = train(bare, root=tmp_path / "runs", say=lambda text: None)
    assert result.folder.name == "run"
    assert diff(load_recipe(result.folder.recipe), given) == []
    longer = bare.model_copy(update={"train": bare.train.model_copy(update={"steps": 3})})
    said = {"root": tmp_path / "runs", "say": lambda text: None}
    assert train(longer, resume="run", **said).progress.step == 3


def test_the_average_is_what_a_run_with_one_loads(tmp_path):
    result = tiny.run(tmp_path, *EVERY, "train.ema=0.9")
    trees, _ = ck.load(result.folder.best())
    model, _ = load(result.folder.path)
    assert tiny.same(model.parameters(), trees["ema"]["average"])
    assert not tiny.same(model.parameters(), trees["model"])


def test_evaluating_a_run_measures_what_training_measured(tmp_path):
    for sets in ((), ("train.ema=0.9",)):
        result = tiny.run(tmp_path, *EVERY, *sets, name=f"a{len(sets)}")
        before = content(result.folder.path)
        path, found = evaluate(result.folder.path)
        assert path == result.folder.best()
        assert found["val_loss"] == tiny.records(result, "val_loss")[-1][1]
        assert content(result.folder.path) == before


def test_a_run_from_given_weights_that_never_saved_resumes_from_them(tmp_path):
    def halve(built):
        built.model.update(tree_map(lambda x: x / 2, built.model.parameters()))

    sets = (*EVERY, "train.steps=2", "eval.every=100")
    whole = tiny.run(tmp_path, *sets, name="a", init_weights=halve)
    saved = whole.folder.checkpoints
    weights = ck.load(saved / "step-000002")[0]["model"]
    shutil.rmtree(saved / "step-000002")
    said = []
    again = tiny.run(tmp_path, *sets, name="a", resume="auto", say=said.append)
    assert tiny.same(ck.load(again.folder.checkpoints / "step-000002")[0]["model"], weights)
    assert any("at step 0, from step-000000" in text for text in said)


def test_a_run_whose_checkpoints_were_deleted_is_not_begun_again(tmp_path):
    first = tiny.run(tmp_path, *EVERY, name="a")
    shutil.rmtree(first.folder.checkpoints)
    log = first.folder.log.read_bytes()
    with pytest.raises(RunError, match=r"trained to step 6, but there is no checkpoint"):
        tiny.run(tmp_path, *EVERY, name="a", resume="auto")
    assert first.folder.log.read_bytes() == log


def test_a_teacher_that_was_trained_further_is_noticed(tmp_path, monkeypatch):
    inputs = Built.inputs
    for digest in ("before", "after"):
        monkeypatch.setattr(
            Built, "inputs", lambda self, d=digest: inputs(self) | {"frozen": {"teacher": d}}
        )
        if digest == "before":
            tiny.run(tmp_path, *EVERY, "train.steps=2", name="a")
    with pytest.raises(RunError, match=r"other weights of objective\.teacher"):
        tiny.run(tmp_path, *EVERY, name="a", resume="auto")
    tree = {"a": mx.ones((2,)), "b": [mx.zeros((1,), mx.bfloat16)]}
    assert digest_of(tree) == digest_of(tree) != digest_of({**tree, "a": mx.zeros((2,))})
