"""Rows of the slot `reward`, and the completions that they judge."""

from typing import Any

import mlx.core as mx

from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.rl.response import Judge, Response
from mlx_transformers.rl.rewards import RewardKind

from .models import LLAMA
from .suite import Change, Row, parse, randomize

ANSWERS = [
    Response("2+3=", text, [1, 2], [0] * n, ended, {"answer": "5", "other": "7"})
    for text, n, ended in (("5", 2, True), ("it is 7", 8, True), ("5.4", 4, False), ("", 1, True))
]
POOLS = {"model": {"kind": "scalar"}, "classifier": {"kind": "classifier", "n_classes": 3}}
CLASSIFIER = POOLS["classifier"] | {"reads": "last", "activation": None}


def length(prompts: list[str], completions: list[str], records: list[Any]) -> list[int]:
    return [len(completion) for completion in completions]


def doubled(prompts: list[str], completions: list[str], records: list[Any]) -> list[int]:
    return [2 * len(prompt) for prompt in prompts]


def judge_of(kind: RewardKind) -> Judge | None:
    """A model of random weights that depend on the run's name."""
    run = kind.frozen()
    if run is None:
        return None
    pool = CLASSIFIER if kind.kind == "classifier" else POOLS["model"]
    model = parse("model", LLAMA | {"pool": pool, "max_seq_len": 32}).build(257)
    return Judge(randomize(model, len(run)), ByteTokenizer())


def rewards_of(kind: RewardKind) -> mx.array:
    """The weighted rewards of the completions."""
    return mx.array(list(kind.build(judge_of(kind))(ANSWERS))) * kind.weight


TEMPLATE = "{prompt}{completion} {principle}?"

ROWS = [
    Row("reward", "exact", {"kind": "exact"}),
    Row("reward", "numeric", {"kind": "numeric"}),
    Row("reward", "length", {"kind": "length", "most": 2}),
    Row("reward", "format", {"kind": "format", "pattern": "[0-9]*"}),
    Row("reward", "function", {"kind": "function", "function": f"{__name__}:length"}),
    Row("reward", "model", {"kind": "model", "run": "a"}),
    Row(
        "reward",
        "principle",
        {"kind": "principle", "run": "a", "principles": ["be kind"], "template": TEMPLATE},
    ),
    Row("reward", "classifier", {"kind": "classifier", "run": "a"}),
]

CHANGES: dict[str, dict[str, Any]] = {
    "exact": {"weight": 2.0, "answer_key": "other", "pattern": r"(\d)\.\d"},
    "numeric": {"weight": 2.0, "answer_key": "other", "tolerance": 0.5},
    "length": {"weight": 2.0, "least": 2, "most": 7, "slope": 9.0},
    "format": {"weight": 2.0, "pattern": ".+"},
    "function": {"weight": 2.0, "function": f"{__name__}:doubled"},
    "model": {"weight": 2.0, "run": "other", "clip": Change(0.01)},
    "principle": {
        "weight": 2.0,
        "run": "other",
        "principles": ["be brief", "be kind"],
        "template": "{completion}!",
        "yes": "1",
        "no": "0",
    },
    "classifier": {"weight": 2.0, "run": "other", "label": 2, "reads": "both"},
}
