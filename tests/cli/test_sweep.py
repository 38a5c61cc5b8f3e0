"""`mlxt sweep` and `mlxt scale`: points, rounds, folders and fits; runs are faked but for one."""

from dataclasses import replace

import numpy as np
import pytest
import typer

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.cli.scale import scale
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.profile.sweep import Axis
from mlx_transformers.report.scaling import Scaling, Trained
from mlx_transformers.report.sweep import Point, Sweep, read
from mlx_transformers.score import scaling_fit
from mlx_transformers.score.scaling_fit import Points
from mlx_transformers.score.scaling_laws import HOFFMANN
from mlx_transformers.verbs import sweep
from mlx_transformers.verbs.rungs import Step, with_width
from mlx_transformers.verbs.scale import Grid, candidates, fitted

BASE = Step("llama_tiny", load_recipe("llama_tiny"))
RATES = Axis("optim.learning_rate", ("1e-3", "3e-3", "1e-2"))


def test_a_grid_has_every_combination_and_a_random_search_draws_from_ranges():
    axes = [RATES, Axis("optim.weight_decay", ("0.0", "0.1"))]
    grid = sweep.candidates(BASE, axes, sweep.Settings())
    assert len(grid) == 6
    assert grid[1].step.recipe.optim.weight_decay == 0.1
    ranged = [Axis("optim.learning_rate", ("1e-4..1e-2",)), Axis("train.batch_size", ("2..8",))]
    drawn = sweep.candidates(BASE, ranged, sweep.Settings("random", samples=5))
    again = sweep.candidates(BASE, ranged, sweep.Settings("random", samples=5))
    assert [each.settings for each in drawn] == [each.settings for each in again]
    assert len(drawn) == 5
    assert all(1e-4 <= each.step.recipe.optim.learning_rate <= 1e-2 for each in drawn)


@pytest.mark.parametrize(
    ("axes", "settings", "says"),
    [
        ([Axis("optim.learning_rate", ("1e-4..1e-2",))], sweep.Settings(), "--search random"),
        ([RATES], sweep.Settings("random"), "--samples"),
        (
            [Axis("optim.learning_rat", ("1e-3",))],
            sweep.Settings(),
            "^--over optim.learning_rat=1e-3: ",
        ),
    ],
)
def test_points_that_can_t_be_are_refused_before_training(axes, settings, says):
    with pytest.raises(RecipeError, match=says):
        sweep.candidates(BASE, axes, settings)


def test_halving_keeps_the_best_half_and_ends_at_full_length(tmp_path, monkeypatch):
    trained: list[tuple[str, int]] = []

    def train_point(each, seeds, best, run, say):
        trained.append((each.settings["optim.learning_rate"], each.step.recipe.train.steps))
        each.values[1] = abs(float(each.settings["optim.learning_rate"]) - 3e-3)
        return True

    monkeypatch.setattr(sweep, "train_point", train_point)
    monkeypatch.setattr(sweep, "check", lambda found: None)
    over = ["optim.learning_rate=1e-3,3e-3,1e-2,2e-2"]
    settings = sweep.Settings("halving", rounds=2)
    _, found = sweep.sweep("llama_tiny", over, settings=settings, root=tmp_path, say=lambda s: None)
    assert [steps for _, steps in trained] == [750] * 4 + [1500] * 2
    assert found.best.settings == {"optim.learning_rate": "3e-3"}


def test_a_point_that_fails_is_listed_and_the_files_read_back(tmp_path):
    points = [
        Point({"k": "1"}, {1: 2.0, 2: 2.2}, 2.1, 1.3, ["a", "b"]),
        Point({"k": "2"}, {1: 2.1, 2: 2.1}, 2.1001, 0.0, ["c", "d"]),
        Point({"k": "4"}, {}, None, None, [], "too hot"),
    ]
    found = Sweep("val_loss", "min", points)
    assert "can't tell it from k=2" in found.verdict()
    assert found.rows()[2][2] == "failed"
    files = found.write(tmp_path)
    assert read(files[0]) == found
    assert found.plot(tmp_path / "sweep.svg").is_file()


def test_foreign_files_in_the_folder_are_kept(tmp_path):
    (tmp_path / "sweep-llama_tiny").mkdir()
    (tmp_path / "sweep-llama_tiny" / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="which no sweep wrote"):
        sweep.sweep("llama_tiny", ["optim.learning_rate=1e-3"], root=tmp_path)


def test_a_width_scales_hidden_layers_and_heads():
    recipe = with_width(BASE, 64).recipe
    assert recipe.model.dim == 64
    assert recipe.model.block.ffn.hidden_dim == 176
    assert recipe.model.block.mixer.n_heads == 2
    wide_heads = Step("w", load_recipe("llama_tiny", ["model.block.mixer.head_dim=48"]))
    assert with_width(wide_heads, 64).recipe.model.block.mixer.n_heads == 2


@pytest.mark.parametrize("key", ["eval.patience=2", "grow=[{at=20, n_layers=6}]"])
def test_a_grid_has_runs_of_one_size_and_full_length(key):
    base = Step("b", load_recipe("llama_tiny", [key]))
    with pytest.raises(RecipeError, match=key.partition("=")[0]):
        candidates(base, Grid((64, 96), (100, 200, 400)))


def test_tokens_of_a_run_count_short_rows_and_small_batches():
    sets = ("train.steps=6", "train.accumulate=2", "train.seq_len=16", "train.batch_size=4",
            "train.batch_schedule=[{until=3, rows=4}]",
            "train.seq_len_warmup={start=8, steps=4, shapes=3}")  # fmt: skip
    train = load_recipe("llama_tiny", sets).train
    rows, lengths = [4, 4, 4, 8, 8, 8], [8, 8, 12, 12, 16, 16]
    assert train.tokens == sum(n * length for n, length in zip(rows, lengths, strict=True))


@pytest.mark.parametrize("check", ["abc", "192", "192x", "0x20", "192x20x3", "192,20"])
def test_a_check_that_is_no_width_and_steps_is_refused_with_its_form(check):
    with pytest.raises(typer.BadParameter, match="WIDTHxSTEPS, as in 192x2000"):
        scale("llama_tiny", "64,96", "20", check)


def test_two_spellings_of_one_value_are_refused():
    axes = [Axis("optim.learning_rate", ("1e-2", "0.01"))]
    with pytest.raises(RecipeError, match=r"=1e-2 and optim.learning_rate=0.01 are one recipe"):
        sweep.candidates(BASE, axes, sweep.Settings())


def test_a_grid_needs_runs_enough_for_five_numbers():
    with pytest.raises(RecipeError, match="6 runs"):
        candidates(BASE, Grid((64, 96), (100, 200)))


def test_a_fit_finds_the_law_that_made_its_runs_and_predicts_another():
    rng = np.random.default_rng(0)
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e9, 3), np.geomspace(1e9, 1e11, 3)))
    loss = HOFFMANN.loss(n, d) * np.exp(rng.normal(0, 1e-3, n.shape))
    points = Points(n, d, loss)
    fit = scaling_fit.fit(points)
    assert fit.law.alpha == pytest.approx(0.34, abs=0.03)
    assert pytest.approx(1.69, abs=0.05) == fit.law.E
    runs = [Trained("r", 1, 1, *row, 1e3) for row in zip(n, d, loss, strict=True)]
    scaling = fitted(runs)
    low, high = scaling.predicted(1e10, 2e11).interval
    assert low < float(HOFFMANN.loss(1e10, 2e11)) < high
    assert "tokens a parameter" in scaling.sentences()[2]


def test_a_law_that_does_not_fall_with_size_has_no_best_size():
    law = replace(HOFFMANN, alpha=-0.2)
    points = Points(*(np.ones(6) for _ in range(3)))
    fit = scaling_fit.Fit(law, np.zeros(5), 0.0)
    said = Scaling([], points, fit, np.zeros((1, 5)), [1e18]).sentences()
    assert len(said) == 2
    assert "doesn't fall with size, so that no budget has a best size" in said[1]
