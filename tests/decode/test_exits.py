"""Decoding with early exits against a model that is run on the whole text for every token."""

from typing import Any

import mlx.core as mx
import pytest
from contract.adapters import adapted
from contract.models import LLAMA
from contract.suite import VOCAB, parse, randomize

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.context import Collected, Context
from mlx_transformers.core.errors import RunError
from mlx_transformers.decode.beam import best_continuations
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.exits import ExitEngine, Exits
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.ops.exits import confident

PROMPT, NEW = [3, 1, 4, 1], 12
GREEDY = Sampling(temp=0.0)


def model(**fields: Any) -> Any:
    return randomize(parse("model", LLAMA | {"n_layers": 4} | fields).build(VOCAB), 0)


def continued(engine: Any) -> list[int]:
    engine.start([PROMPT])
    return [token for (token,) in engine.tokens(NEW)]


def by_whole_texts(deep: Any, exits: Exits) -> tuple[list[int], list[int]]:
    """The tokens, and the number of layers that each was predicted after."""
    tokens, used = list(PROMPT), []
    for _ in range(NEW):
        ctx = Context(collected=Collected(layers=[]))
        deep(mx.array([tokens]), ctx)
        for n, h in enumerate(ctx.collected.layers or [], 1):
            logits = deep.head(deep.norm(h[:, -1]), deep.embed.table)
            sure = bool(confident(logits, exits.measure, exits.threshold).item())
            if n == 4 or (n >= exits.first and sure):
                break
        used.append(n)
        tokens.append(int(mx.argmax(logits[0]).item()))
    return tokens[len(PROMPT) :], used


@pytest.mark.parametrize(
    "exits",
    [Exits(0.45), Exits(0.25, "margin"), Exits(0.8, "entropy"), Exits(0.3, first=3)],
    ids=str,
)
def test_tokens_leave_at_the_first_confident_layer(exits: Exits) -> None:
    deep = model()
    tokens, used = by_whole_texts(deep, exits)
    assert len(set(used)) > 1, "the test needs tokens that leave at several layers"
    engine = ExitEngine(deep, exits, sampling=GREEDY)
    assert continued(engine) == tokens
    assert engine.layers_per_token == pytest.approx(sum(used) / NEW)


def test_a_threshold_that_nothing_reaches_gives_the_whole_model() -> None:
    deep = model()
    engine = ExitEngine(deep, Exits(1.0), sampling=GREEDY)
    assert continued(engine) == continued(Engine(deep, sampling=GREEDY))
    assert engine.layers_per_token == 4


@pytest.mark.parametrize(
    ("threshold", "measure", "first"), [(0.0, "max_prob", 1), (1.5, "margin", 1), (0.5, "best", 1)]
)
def test_exits_out_of_range_are_refused(threshold: float, measure: Any, first: int) -> None:
    with pytest.raises(RunError):
        Exits(threshold, measure, first)


def test_a_universal_transformer_is_not_left_early() -> None:
    with pytest.raises(RunError, match="weighs the outputs of all steps"):
        ExitEngine(model(n_distinct=1, depth={"kind": "universal"}), Exits(0.5))


def test_searches_that_would_leave_out_a_soft_prompt_are_refused() -> None:
    prompted = adapted(parse("adapt", {"kind": "prompt", "length": 3}))
    with pytest.raises(RunError, match="early exits is not built for a soft prompt"):
        ExitEngine(prompted, Exits(0.5))
    with pytest.raises(RunError, match="Beam search is not built for a soft prompt"):
        best_continuations(prompted, PROMPT, end=0, limit=2)
