"""On a GPU the ops take other forms. Both run here, on the CPU, and must agree.

That proves arguments, shapes and masks of the calls into `mx.fast`; not the GPU's own kernels.
"""

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers import ops
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = ["model.dim=32", "model.n_layers=2", "model.max_seq_len=16", "train.seq_len=16"]
WINDOW = ["model.block.mixer.window=5"]
RUNGS = {"base": [], "gpt2": [], "llama": [], "mistral": WINDOW, "mixtral": WINDOW}
PLACES = ("alibi", "buckets", "shaw", "transformer_xl", "xpos")
RUNGS |= {f"positions/{name}": [] for name in PLACES}
VOCAB = 40


def results(rung: str) -> dict[str, np.ndarray]:
    """Loss and gradients of a batch with packed documents, and logits of a prompt and a step."""
    recipe = load_recipe(RECIPES / f"{rung}_tiny.toml", [*SMALL, *RUNGS[rung]])
    mx.random.seed(0)
    model, objective = recipe.model.build(VOCAB), recipe.objective.build()
    tokens = mx.random.randint(0, VOCAB, (2, 13))
    batches = {"plain": {"tokens": tokens}}
    batches["packed"] = {"tokens": tokens, "segments": (mx.arange(13) > 6) * mx.ones((2, 1))}
    params, found = model.trainable_parameters(), {}
    for name, batch in batches.items():

        def loss(params: Any, batch: dict[str, mx.array] = batch) -> mx.array:
            model.update(params)
            return objective({"model": model}, batch, Context(key=mx.random.key(1))).total

        found[name] = mx.value_and_grad(loss)(params)
        model.update(params)
    logits, state = model.step(tokens[:, :9], model.init_state(2, 16))
    found["decoded"] = [logits, model.step(tokens[:, 9:10], state)[0]]
    return {name: np.array(value) for name, value in tree_flatten(found)}


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_is_the_same_model_in_the_forms_of_the_gpu(
    rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mx.stream(mx.cpu):
        cpu = results(rung)
    asking = [import_module(f"{ops.__name__}.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]
    asking = [module for module in asking if hasattr(module, "on_cpu")]
    assert len(asking) > 5
    for module in asking:
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    with mx.stream(mx.cpu):
        gpu = results(rung)
    for name, value in gpu.items():
        np.testing.assert_allclose(value, cpu[name], rtol=1e-3, atol=1e-4, err_msg=name)
