"""Recipes of the tests, planned and measured."""

import gc

import mlx.core as mx
import numpy as np

from mlx_transformers.assembly.job import job
from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.recipe import Recipe, load_recipe
from mlx_transformers.memory.account import Account, account
from mlx_transformers.memory.job import Job
from mlx_transformers.trainer.state import TrainState
from mlx_transformers.trainer.step import Step

SMALL = ("model.n_layers=2", "model.vocab_size=512", "train.seq_len=128", "train.batch_size=4")


def recipe(name: str, *sets: str) -> Recipe:
    """A shipped recipe, made small."""
    keys = {each.partition("=")[0] for each in sets}
    return load_recipe(name, [*(s for s in SMALL if s.partition("=")[0] not in keys), *sets])


def job_of(name: str = "llama_tiny", *sets: str, cpu: bool = True) -> Job:
    """Its sizes."""
    loaded = recipe(name, *sets)
    return job(loaded, draft_model(loaded), cpu)


def shipped(name: str, *sets: str) -> Job:
    """The sizes of a recipe as it is, on a CPU."""
    loaded = load_recipe(name, list(sets))
    return job(loaded, draft_model(loaded), True)


def planned(name: str = "llama_tiny", *sets: str, cpu: bool = True) -> Account:
    """Its account."""
    return account(job_of(name, *sets, cpu=cpu))


def measured(name: str, *sets: str) -> int:
    """MLX's peak over the steps from the second on, on random tokens; what others hold left out.

    That may go before the peak or after it.
    """
    gc.collect()
    before = mx.get_active_memory()
    peak = _peak(name, *sets)
    gc.collect()
    return peak - min(before, mx.get_active_memory())


def _peak(name: str, *sets: str) -> int:
    loaded = recipe(name, *sets)
    config = loaded.train
    model = draft_model(loaded)
    state = TrainState(model, loaded.optim.build(model, 10), config)
    step = Step(state, loaded.objective.build(), config)
    shape = (config.accumulate, config.batch_size, config.seq_len + 1)
    draw = np.random.default_rng(0)
    for index in range(8):  # on a busy machine few steps run as far ahead as they can
        if index == 1:
            mx.clear_cache()
            mx.reset_peak_memory()
        rows = draw.integers(0, model.vocab_size, shape, dtype=np.int32)
        mx.eval(step([{"tokens": mx.array(each)} for each in rows], index), step.state)
    return mx.get_peak_memory()
