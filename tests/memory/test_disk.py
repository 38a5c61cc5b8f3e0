"""State and gradients in a file: the lower peak that a plan predicts, and the time they take."""

from pathlib import Path

import pytest

from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.plan import plan
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.memory.account import account
from mlx_transformers.memory.chips import find_mac
from mlx_transformers.memory.disk import ASSUMED, Paging, paging, write_speed
from mlx_transformers.trainer.offload import PAGE_BYTES

from .planned import job_of

PAGED = "train.offload_optimizer=true"
LARGE = ("model.dim=384", "model.block.ffn.hidden_dim=1032", "model.n_layers=6")


def test_state_and_gradients_leave_the_peak_and_a_page_stays() -> None:
    whole, paged = (account(job_of("llama_tiny", *LARGE, *sets)) for sets in ((), (PAGED,)))
    assert paged.held["optimizer"] == 0.0
    assert paged.held["weights"] == whole.held["weights"]
    assert whole.peak - paged.peak > 0.8 * whole.held["optimizer"]
    page = job_of("llama_tiny", *LARGE, PAGED).page_bytes
    assert page is not None
    assert 0.5 * PAGE_BYTES < page <= PAGE_BYTES


def test_gradients_leave_the_peak_of_an_optimizer_with_little_state() -> None:
    deep = (*LARGE[:2], "model.n_layers=16", "train.batch_size=1", "train.seq_len=16")
    sets = (*deep, "optim={kind='adafactor'}")
    whole, paged = (job_of("llama_tiny", *sets, *more) for more in ((), (PAGED,)))
    assert paged.page_bytes is not None
    assert 0.5 * PAGE_BYTES < paged.page_bytes <= PAGE_BYTES
    assert account(paged).peak < 0.8 * account(whole).peak


def test_accumulated_gradients_are_in_the_file() -> None:
    held = account(job_of("llama_tiny", "train.accumulate=4", PAGED)).held
    assert "accumulated gradients" not in held


def test_a_step_reads_and_writes_all_of_it() -> None:
    found = paging(state=8e9, gradients=4e9, accumulate=2, folder=None)
    assert found == Paging(12e9, 2 * 8e9 + 2 * 2 * 4e9, ASSUMED, measured=False)
    assert found.seconds == pytest.approx(32e9 / ASSUMED)
    assert found.slowdown(found.seconds) == pytest.approx(2.0)


def test_the_speed_of_a_disk_is_measured_where_it_can_be_written(tmp_path: Path) -> None:
    speed = write_speed(tmp_path / "not" / "yet")
    assert speed is not None
    assert paging(1e9, 0.0, 1, tmp_path / "not" / "yet") == Paging(1e9, 2e9, speed, measured=True)
    assert list(tmp_path.iterdir()) == []


def test_a_mac_that_is_not_at_hand_has_an_assumed_disk() -> None:
    recipe = load_recipe("llama_tiny", ["model.vocab_size=512", PAGED])
    found = plan(recipe, draft_model(recipe), find_mac("M1 16GB"))
    assert found.paging is not None
    assert found.speed is not None
    assert not found.paging.measured
    facts = found.facts()["paging"]
    step_s = 8 * 256 / found.speed.most
    assert facts["slowdown_at_most"] == pytest.approx(1 + found.paging.seconds / step_s)


def test_the_longest_time_of_a_run_and_its_energy_wait_for_the_file() -> None:
    sets = ["model.vocab_size=512", "train.steps=1000", "cost.watts=50"]
    recipes = [load_recipe("llama_tiny", each) for each in (sets, [*sets, PAGED])]
    whole, paged = (plan(each, draft_model(each), find_mac("M1 16GB")) for each in recipes)
    assert whole.hours is not None
    assert paged.hours is not None
    assert paged.paging is not None
    assert paged.speed is not None
    assert whole.hours[1] == pytest.approx(1000 * 8 * 256 / whole.speed.least / 3600)
    waited = 1000 * paged.paging.seconds / 3600
    assert paged.hours[1] == pytest.approx(paged.speed.hours(paged.tokens)[1] + waited)
    assert paged.hours[0] == pytest.approx(paged.speed.hours(paged.tokens)[0])
    assert paged.cost is not None
    assert paged.cost.kwh == pytest.approx([0.05 * each for each in paged.hours])
