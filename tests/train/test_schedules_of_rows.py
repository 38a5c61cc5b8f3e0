"""Batch-size schedules, short rows at first, curricula and the noise scale, in whole runs."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.curriculum_order import curriculum_order
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.trainer.config import Train
from mlx_transformers.trainer.forward import Forward
from mlx_transformers.trainer.noise_scale import NoiseScale
from mlx_transformers.verbs import resume
from mlx_transformers.verbs.evaluate import open_run

from . import tiny

GROWING = "train.batch_schedule=[{until=2, rows=8}, {until=4, rows=12}]"
SETS = (
    GROWING,
    "train.accumulate=4",
    "train.noise_scale=true",
    "train.seq_len_warmup={start=8, steps=4, shapes=3}",
    "checkpoint.every=3",
    "optim.schedule={kind='constant'}",
    'curriculum={by="rarity", steps=4, start=0.3}',
)


def test_schedules_resume_exactly(tmp_path):
    whole = tiny.run(tmp_path, *SETS, name="whole")
    tiny.run(tmp_path, *SETS, "train.steps=3", name="a")
    ended = tiny.run(tmp_path, *SETS, name="a", resume="auto")
    files = [(r.folder.newest() / "model.safetensors").read_bytes() for r in (whole, ended)]
    assert files[0] == files[1]
    tokens = [value for _, value in tiny.records(whole, "tokens")]
    rows, lengths = [8, 8, 12, 12, 16, 16], [8, 8, 12, 12, 16, 16]
    assert tokens[:6] == np.cumsum(np.multiply(rows, lengths)).tolist()
    noise = tiny.records(whole, "grad_noise")
    assert len(noise) == 6
    assert noise == tiny.records(ended, "grad_noise")


def test_the_loss_of_a_run_orders_rows_of_another(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("the king " * 80 + "zx qj vk wp " * 60)
    first = tiny.run(tmp_path, "train.steps=6", "train.seed=1", name="first")
    by = f'curriculum={{by="loss", reference="{first.folder.path}", steps=2}}'
    built = tiny.built(tmp_path, by)
    order = curriculum_order(built, built.recipe.curriculum)
    assert sorted(order) == list(range(len(order)))
    assert np.median(order[: len(order) // 3]) < np.median(order[-len(order) // 3 :])
    second = tiny.run(tmp_path, by, "train.steps=2", name="second")
    with monkeypatch.context() as patched:
        patched.setattr(
            resume, "curriculum_fingerprint", lambda recipe: {"curriculum": "trained further"}
        )
        with pytest.raises(RunError, match=r"other weights of curriculum\.reference"):
            tiny.run(tmp_path, by, "train.steps=3", name="second", resume="auto")
        open_run(second.folder.path)
    moved = first.folder.path.rename(tmp_path / "moved")
    with pytest.raises(RecipeError, match=r"where it is now: --set curriculum\.reference=RUN"):
        open_run(second.folder.path)
    there = by.replace(str(first.folder.path), str(moved))
    again = tiny.run(tmp_path, there, "train.steps=3", name="second", resume="auto")
    assert again.progress.step == 3
    moved.rename(first.folder.path)
    monkeypatch.setattr(Forward, "__call__", None)
    np.testing.assert_array_equal(curriculum_order(built, built.recipe.curriculum), order)
    other = tiny.built(tmp_path, by, "objective.z_loss=0.1")
    with pytest.raises(TypeError, match="not callable"):  # another loss, which is computed anew
        curriculum_order(other, other.recipe.curriculum)


def test_the_step_of_a_row_follows_the_schedule():
    stages = [{"until": 3, "rows": 4}, {"until": 5, "rows": 8}]
    train = Train.model_validate(
        {"steps": 9, "batch_size": 4, "accumulate": 4, "seq_len": 8, "batch_schedule": stages}
    )
    sizes = [4, 4, 4, 8, 8, 16, 16]
    steps = np.repeat(np.arange(7), sizes)
    np.testing.assert_array_equal(train.steps_of(np.arange(sum(sizes))), steps)
    assert [train.rows_before(n) for n in range(8)] == [0, *np.cumsum(sizes)]
    assert [train.microbatches(n) * 4 for n in range(7)] == sizes


def test_the_noise_scale_is_that_of_gradients_with_known_noise():
    """Gradients of w tokens: mean (3, 4), variance 2 / w in each of 50 dimensions."""
    rng, noise, n, w = np.random.default_rng(0), NoiseScale(), 4, 8
    true = np.zeros(50)
    true[:2] = 3, 4
    signals, noises = [], []
    for _ in range(200):
        parts = [true + rng.normal(size=50) * (2 / w) ** 0.5 for _ in range(n)]
        sums = sum(noise.microbatch(mx.array(g * w), mx.array(float(w))) for g in parts)
        norm = mx.array(float(np.linalg.norm(np.mean(parts, axis=0))))
        found = noise(sums, norm, mx.array(float(n * w)), mx.array(float(n * w)))
        signals.append(found["grad_signal"].item())
        noises.append(found["grad_noise"].item())
    assert abs(np.mean(signals) - 25) < 1
    assert abs(np.mean(noises) - 100) < 5


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("train.batch_schedule=[{until=2, rows=3}]",), "no whole number of microbatches"),
        ((GROWING.replace("until=4", "until=2"), "train.accumulate=4"), "sort the stages"),
        ((GROWING, "train.accumulate=4", 'train.microbatch="auto"'), "give train.microbatch a"),
        (("train.noise_scale=true",), "every step needs two"),
        (
            ("train.noise_scale=true", "train.accumulate=4", 'train.microbatch="auto"'),
            "may make one of a step",
        ),
        (("train.seq_len_warmup={start=14, steps=4}",), "begin with shorter rows"),
        (('curriculum={by="length", steps=4}',), "all of one length"),
        (('curriculum={by="loss", steps=4}',), "go together"),
        (('curriculum={by="rarety", steps=4}',), "Did you mean 'rarity'"),
        (('curriculum={by="rarity", steps=4}', 'data.batch={kind="streams"}'), "independent rows"),
    ],
)
def test_schedules_that_can_not_be_are_refused(tmp_path, sets, words):
    with pytest.raises(RecipeError, match=words):
        tiny.recipe(tmp_path, *sets)
