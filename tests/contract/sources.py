"""Rows of the slot `source`, and the parts of a run that rollouts read."""

from pathlib import Path
from typing import Any

import numpy as np

from mlx_transformers.data.config import Data
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.recipe.slot import kind_of
from mlx_transformers.trainer.config import Train
from mlx_transformers.trainer.source import FrozenModel, RunParts, SourceKind

from .models import LLAMA
from .suite import Change, Row, parse, randomize


def spread(prompts: list[str], completions: list[str], records: list[Any]) -> list[float]:
    return [sum(map(ord, completion)) % 97 / 97 for completion in completions]


ROLLOUTS = {
    "kind": "rollouts",
    "prompts": 2,
    "group": 2,
    "rows": 3,
    "max_tokens": 3,
    "rewards": {"mine": {"kind": "function", "function": f"{__name__}:spread"}},
    "signal": {"kind": "leave_one_out"},
}
REFERENCED = ROLLOUTS | {"reference": "before", "kl": 0.5}

REVISE = {
    "principles": ["short"],
    "critique": "{completion}?",
    "revision": "{completion}!",
}
ROWS = [
    Row("source", "stream", {"kind": "stream"}),
    Row("source", "rollouts", ROLLOUTS),
    Row("source", "referenced", {"kind": "referenced", "reference": "before"}),
    Row("source", "rollouts for imitation", ROLLOUTS | {"signal": {"kind": "best", "keep": 2}}),
    Row("source", "rollouts with a reference", REFERENCED),
    Row("source", "rollouts with an adaptive bond", REFERENCED | {"kl_target": 0.1}),
]

_reference, _adaptive = "rollouts with a reference", "rollouts with an adaptive bond"

CHANGES: dict[str, dict[str, Any]] = {
    "stream": {},
    "referenced": {"reference": "after all"},
    "rollouts": {
        "prompts": 4,
        "group": 4,
        "rows": Change(2, result=False),
        "max_tokens": 5,
        "temperature": 0.2,
        "top_p": 0.1,
        "top_k": 1,
        "eval_temperature": 1.0,
        "epochs": 2,
        "rewards": {"long": {"kind": "length", "least": 9, "most": 9, "slope": 9}},
        "signal": {"kind": "group"},
        "revise": Change(REVISE, row="rollouts for imitation"),
        "writer": Change("before", row="rollouts for imitation"),
        "reference": Change("after", row=_reference),
        "kl": Change(0.1, row=_reference),
        "kl_estimator": Change("k2", row=_reference),
        "kl_target": Change(10.0, row=_adaptive),
        "kl_horizon": Change(4, row=_adaptive),
        "score_clip": 0.1,
        "missing_eos_penalty": 0.5,
        "on_error": Change("zero", result=False),
        "on_flat": Change("stop", result=False),
    },
}


def parts_of(source: SourceKind, folder: Path) -> RunParts:
    """A model of random weights, and sums to continue."""
    table = {
        "corpus": "arithmetic",
        "settings": {"n_examples": 40},
        "tokenizer": kind_of("tokenizer", "byte")(),
        "batch": {"kind": "preferences" if source.kind == "referenced" else "prompts"},
    }
    settings = Data.model_validate(table)
    small = LLAMA | {"dim": 8, "n_layers": 1, "max_seq_len": 16}

    def model(seed: int) -> Any:
        return randomize(parse("model", small).build(257), seed)

    frozen = {role: FrozenModel(model(len(run)), ByteTokenizer())
              for role, run in source.frozen().items()}  # fmt: skip
    train = Train.model_validate({"steps": 4, "batch_size": 2, "seq_len": 12, "seed": 3})
    return RunParts(prepare(settings), settings, train, 2, {"model": model(0)}, frozen=frozen)


def batches_of(source: SourceKind, folder: Path) -> dict[str, np.ndarray]:
    """Two rollouts of training, an evaluation, and the cursor after them."""
    parts = parts_of(source, folder)
    feed = source.feed(parts, {})
    found = {"cursor": np.array(0.0)}
    for number in range(4):
        found |= {f"{number}.{name}": np.array(v) for name, v in next(feed).items()}
    cursor = feed.cursor
    keys = [key for key in ("rollout", "batch", "kl_weight") if key in cursor]
    found["cursor"] = np.array([float(cursor[key]) for key in keys])
    feed.close()
    for batch in source.held_out(parts, 1):
        found |= {f"valid.{name}": np.array(value) for name, value in batch.items()}
    return found
