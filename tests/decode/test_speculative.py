"""Speculative decoding: the distribution is the model's own."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from small import recipe

from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.drafts import (
    Distribution,
    EarlyExitDraft,
    ModelDraft,
    MtpDraft,
    PromptLookup,
    Proposal,
    Text,
)
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.reader import Reader
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.decode.speculative import SpeculativeEngine, accept_tokens

PROMPT = [5, 3, 5, 3, 5, 3, 5]
GREEDY = Sampling(0.0)
RETENTION = ['model.block.mixer={kind="retention",n_heads=2}', "model.position.kind=none"]


def model(folder: Path, *changes: str, norm: float = 1.0, std: float = 0.6) -> Any:
    """A model of 16 tokens; with another gain of the last norm it agrees with itself in part."""
    file = folder / "tiny.toml"
    file.write_text(recipe(dim=16))
    mx.random.seed(0)
    shared = ["model.vocab_size=16", f"model.init.std={std}", "model.n_layers=2"]
    found: Any = draft_model(load_recipe(file, [*shared, *changes]))
    found["norm"]["weight"] = found["norm"]["weight"] * norm
    mx.eval(found.parameters())
    return found


def continued(engine: Any, n: int = 8) -> list[int]:
    engine.start([PROMPT])
    return [token for (token,) in engine.tokens(n)]


def test_the_first_tokens_have_the_models_distribution() -> None:
    """Chi-square over 20,000 draws of two tokens, with a draft of another distribution."""
    rng, n = np.random.default_rng(0), 20_000
    p, q = (rng.dirichlet(np.ones(6), size=3) for _ in range(2))
    drafted = np.stack([rng.choice(6, size=n, p=row) for row in q[:2]], axis=1)
    probs, target = mx.array(q[:2], dtype=mx.float32), mx.array(p, dtype=mx.float32)
    uniform = mx.array(rng.random((n, 3), dtype=np.float32))
    check = mx.vmap(lambda tokens, u: accept_tokens(Proposal(tokens, probs), target, u))
    found, lengths = (np.array(each) for each in check(mx.array(drafted), uniform))
    second = np.where(lengths > 1, found[:, 1], rng.choice(6, size=n, p=p[1]))
    counts = np.zeros((6, 6))
    np.add.at(counts, (found[:, 0], second), 1)
    expected = n * np.outer(p[0], p[1])
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # 35 degrees of freedom, p = 0.001
    assert set(lengths.tolist()) == {1, 2, 3}


@pytest.mark.parametrize("kind", ["model", "lookup", "early_exit", "mtp", "window"])
def test_greedy_text_is_that_of_the_model_alone(tmp_path: Path, kind: str) -> None:
    changes = {
        "mtp": ["model.ahead.kind=mtp"],
        "window": ["model.block.mixer.window=3"],
    }
    target = model(tmp_path, *changes.get(kind, []))
    drafts = {"lookup": PromptLookup(), "early_exit": EarlyExitDraft(1), "mtp": MtpDraft()}
    draft = drafts.get(kind, ModelDraft(model(tmp_path, norm=0.8)))
    wanted = continued(Engine(target, sampling=GREEDY))
    engine = SpeculativeEngine(target, draft, sampling=GREEDY, length=3)
    assert continued(engine) == wanted
    if kind in ("model", "window"):
        assert engine.accepted_per_step > 1


def test_recurrent_models_speculate_from_an_earlier_state(tmp_path: Path) -> None:
    target, draft = model(tmp_path, *RETENTION), model(tmp_path, *RETENTION, norm=0.8)
    wanted = continued(Engine(target, sampling=GREEDY))
    engine = SpeculativeEngine(target, ModelDraft(draft), sampling=GREEDY, length=3)
    assert continued(engine) == wanted
    with pytest.raises(RunError, match="needs a model whose decode state is a KV cache"):
        continued(SpeculativeEngine(target, EarlyExitDraft(1), sampling=GREEDY))


def test_multi_token_prediction_drafts_what_it_learned(tmp_path: Path) -> None:
    """The first proposed token is that of the training pass over the same text."""
    target = model(tmp_path, "model.ahead.kind=mtp")
    known = [*PROMPT, 9]
    _, (ahead,) = target.hidden_multi_token(mx.array([known]), Context())
    unembedding = target.unembedding()
    wanted = mx.softmax(unembedding.logits(ahead[0, -1]), axis=-1)
    reader, draft = Reader(target, 12, 2), MtpDraft()
    draft.start(reader, 12, 2, Distribution(Sampling(1.0), 16))
    text = Text(known, reader.read_until(known[:-1]), 0)
    found = draft.propose(text, mx.array([0.5, 0.5]))
    assert found is not None
    assert mx.allclose(found.probs[0], wanted, atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    target = model(tmp_path)
    with pytest.raises(RunError, match="repetition"):
        SpeculativeEngine(target, PromptLookup(), sampling=Sampling(repetition_penalty=1.2))
    with pytest.raises(RunError, match="no multi-token prediction"):
        continued(SpeculativeEngine(target, MtpDraft()))
    with pytest.raises(RunError, match="after 2 of 2 layers"):
        continued(SpeculativeEngine(target, EarlyExitDraft(2)))
