"""Speculative decoding: the distribution is the model's own."""

import mlx.core as mx
import numpy as np
import pytest
from small import recipe

from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.decode.speculative import (
    ModelDraft,
    PromptLookup,
    Proposal,
    SpeculativeEngine,
    verified,
)
from mlx_transformers.models.model import Model

PROMPT = [5, 3, 5, 3, 5, 3, 5]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """A model, and another that agrees with it in part."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(recipe(dim=16))
    found = []
    for norm in (1.0, 0.8):
        mx.random.seed(0)
        model = draft_model(load_recipe(file, ["model.vocab_size=16", "model.init.std=0.6"]))
        model["norm"]["weight"] = model["norm"]["weight"] * norm
        mx.eval(model.parameters())
        found.append(model)
    return found[0], found[1]


def test_the_first_tokens_have_the_models_distribution() -> None:
    """Chi-square over 20,000 draws of two tokens, with a draft of another distribution."""
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(6), size=3) for _ in range(2))
    counts = np.zeros((6, 6))
    n = 20_000
    for _ in range(n):
        tokens = [int(rng.choice(6, p=row)) for row in q[:2]]
        found = verified(Proposal(tokens, q[:2]), p, rng)
        first = found[0]
        second = found[1] if len(found) > 1 else int(rng.choice(6, p=p[1]))
        counts[first, second] += 1
    expected = n * np.outer(p[0], p[1])
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # 35 degrees of freedom, p = 0.001


@pytest.mark.parametrize("kind", ["model", "lookup"])
def test_greedy_text_is_that_of_the_model_alone(models: tuple[Model, Model], kind: str) -> None:
    target, other = models
    plain = Engine(target, sampling=Sampling(0.0))  # type: ignore[arg-type]
    plain.start([PROMPT])
    wanted = [token for (token,) in plain.tokens(8)]
    draft = ModelDraft(other) if kind == "model" else PromptLookup()  # type: ignore[arg-type]
    engine = SpeculativeEngine(target, draft, sampling=Sampling(0.0), length=3)  # type: ignore[arg-type]
    engine.start([PROMPT])
    assert [token for (token,) in engine.tokens(8)] == wanted
    assert engine.accepted_per_step >= 1


def test_a_draft_refuses_what_depends_on_the_text(models: tuple[Model, Model]) -> None:
    with pytest.raises(RunError, match="repetition"):
        SpeculativeEngine(
            models[0],  # type: ignore[arg-type]
            PromptLookup(),
            sampling=Sampling(repetition_penalty=1.2),
        )
