"""Choosing what makes a job fit."""

from dataclasses import replace

import pytest

from mlx_transformers.assembly.plan import resolve_auto
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.memory.account import account
from mlx_transformers.memory.fit import LARGEST_CHUNK, choose, least

from .planned import job_of, recipe

JOB = job_of("llama_tiny", "model.n_layers=4", "model.vocab_size=8192", "train.batch_size=8")
ROWS = JOB.batch_size * JOB.accumulate


def test_with_room_nothing_is_given_up() -> None:
    chosen = choose(JOB, 2**40)
    assert chosen is not None
    assert (chosen.job.recomputed, chosen.job.chunk) == (frozenset(), LARGEST_CHUNK)
    assert (chosen.job.batch_size, chosen.cost) == (JOB.batch_size, 0.0)


@pytest.mark.parametrize("share", [0.95, 0.8, 0.6, 0.4])
def test_what_is_chosen_fits_and_keeps_the_rows_of_a_step(share: float) -> None:
    budget = share * account(JOB).peak
    chosen = choose(JOB, budget)
    assert chosen is not None
    assert account(chosen.job).peak == chosen.peak <= budget
    assert chosen.job.batch_size * chosen.job.accumulate == ROWS
    assert chosen.sets(JOB)


def test_less_memory_never_costs_less_time() -> None:
    peak = account(JOB).peak
    costs = [chosen.cost for n in range(10, 3, -1) if (chosen := choose(JOB, peak * n / 10))]
    assert costs == sorted(costs)
    assert costs[-1] > costs[0]


def test_what_is_not_free_stays() -> None:
    budget = 0.92 * account(JOB).peak
    chosen = choose(JOB, budget, frozenset({"recompute"}))
    assert chosen is not None
    assert chosen.job == replace(JOB, recomputed=chosen.job.recomputed)
    assert 0 < len(chosen.job.recomputed) < 4


def test_nothing_fits_below_the_least() -> None:
    smallest = least(JOB)
    assert choose(JOB, smallest * 0.99) is None
    assert choose(JOB, smallest * 1.01) is not None


def test_auto_becomes_a_choice_that_fits_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = (
        "train.recompute=auto",
        "objective.chunk=auto",
        "train.batch_size=16",
        "model.n_layers=4",
    )
    loaded = recipe("llama_tiny", *sets)
    model = loaded.model.build(512)
    job = job_of("llama_tiny", *sets[2:])
    monkeypatch.setattr(
        "mlx_transformers.assembly.plan.budget_bytes", lambda: 0.9 * account(job).peak
    )
    monkeypatch.setattr("mlx_transformers.assembly.plan.correction", lambda key: 1.0)
    settled = resolve_auto(loaded, model).recipe
    assert settled.train.recompute == sorted(model.stack.recomputed) != []
    assert isinstance(settled.objective.chunk, int)


def test_processes_that_train_together_do_not_choose_each_for_itself() -> None:
    loaded = recipe("llama_tiny", "train.microbatch=auto")
    with pytest.raises(RunError, match="must agree"):
        resolve_auto(loaded, loaded.model.build(512), ranks=2)


def test_auto_microbatches_keep_the_rows_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ("train.microbatch=auto", "train.batch_size=8", "train.accumulate=4")
    loaded = recipe("llama_tiny", *sets)
    model = loaded.model.build(512)
    monkeypatch.setattr("mlx_transformers.assembly.plan.correction", lambda key: 1.0)
    sizes = []
    for budget in (2**40, 60e6):
        monkeypatch.setattr("mlx_transformers.assembly.plan.budget_bytes", lambda b=budget: b)
        config = resolve_auto(loaded, model).recipe.train
        assert config.batch_size * config.accumulate == 32
        sizes.append(config.batch_size)
    assert sizes[0] == 32 > sizes[1]


def test_settled_is_settled() -> None:
    loaded = recipe("llama_tiny", "train.microbatch=auto", "train.recompute=auto")
    settled = resolve_auto(loaded, loaded.model.build(512)).recipe
    assert resolve_auto(settled, loaded.model.build(512)).recipe is settled


def test_a_run_that_cannot_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = recipe("llama_tiny", "objective.chunk=auto", "train.batch_size=64")
    monkeypatch.setattr("mlx_transformers.assembly.plan.budget_bytes", lambda: 60e6)
    monkeypatch.setattr("mlx_transformers.assembly.plan.correction", lambda key: 1.0)
    with pytest.raises(RunError, match=r"chunk fits the budget .*train\.microbatch="):
        resolve_auto(loaded, loaded.model.build(512))


def test_a_number_of_rows_divides_a_step_and_evaluation_sees_the_same_rows() -> None:
    sets = ("train.batch_size=8", "train.accumulate=3", "train.microbatch=6", "eval.batches=5")
    loaded = recipe("llama_tiny", *sets, "unset=['eval.batch_size']")
    settled = resolve_auto(loaded, loaded.model.build(512)).recipe
    assert (settled.train.batch_size, settled.train.accumulate) == (6, 4)
    assert settled.eval.batches * 6 >= 5 * 8 > (settled.eval.batches - 1) * 6
    assert resolve_auto(settled, loaded.model.build(512)).recipe is settled


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("train.microbatch=5",), "does not divide the 4 rows"),
        (("train.batch_size=auto",), "train.microbatch = 'auto'"),
        (("train.accumulate=auto",), "train.microbatch = 'auto'"),
    ],
)
def test_rows_that_do_not_make_a_step_are_refused(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe("llama_tiny", *sets)


@pytest.mark.parametrize(("words", "blocks"), [("every 2", {0, 2, 4}), ("every 5", {0, 5})])
def test_every_kth_block_is_recomputed_and_planned(words: str, blocks: set[int]) -> None:
    job = job_of("llama_tiny", f"train.recompute='{words}'", "model.n_layers=6")
    assert job.recomputed == blocks


def test_every_zeroth_block_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train\.recompute"):
        recipe("llama_tiny", "train.recompute='every 0'")
