"""Ten steps on one batch follow those of torch: the same weights, loss, gradients and AdamW.

`tools/golden_training.py` makes the losses; the steps here are those that `mlxt train` takes.
"""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import typed_model
from mlx_transformers.objectives.clm import Clm
from mlx_transformers.objectives.mlm import Mlm
from mlx_transformers.objectives.seq2seq import Seq2Seq
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.trainer.config import Train
from mlx_transformers.trainer.state import TrainState
from mlx_transformers.trainer.step import Step

from .test_goldens import NAMES, read, rebuild

TRAINED = [name for name in NAMES if "train_losses" in read(name)[1]]
TOLERANCE = 1e-4
"""Nats, after up to nine updates."""
OFF = ("dropout", "balance_loss", "z_loss")
"""What a model is trained with beside its task; the reference has none of it."""


def plain(table: Any) -> Any:
    """A model's table without dropout and router losses."""
    if isinstance(table, list):
        return [plain(part) for part in table]
    if not isinstance(table, dict):
        return table
    return {key: 0.0 if key in OFF else plain(value) for key, value in table.items()}


def task(arrays: dict[str, np.ndarray]) -> tuple[Any, dict[str, mx.array]]:
    """The objective and the batch of a golden."""
    given = {name: mx.array(array.astype(np.int32)) for name, array in arrays.items()}
    if "train_target_ids" in given:
        tokens = given["train_target_ids"]
        batch = {
            "source": given["train_source_ids"],
            "source_valid": given["train_source_mask"] == 1,
            "tokens": tokens,
            "weights": mx.ones(tokens[:, 1:].shape),
        }
        return Seq2Seq().build(), batch
    ids = given["train_ids"]
    if "train_seen_ids" not in given:
        return Clm().build(), {"tokens": ids}
    seen = given["train_seen_ids"]
    weights = (seen != ids).astype(mx.float32)
    batch = {"tokens": seen, "targets": ids, "weights": weights}
    return Mlm().build(), batch | {"valid": mx.ones(ids.shape, mx.bool_)}


def losses(name: str, steps: int, **optim: Any) -> np.ndarray:
    """The loss of each of so many steps from a golden's weights on its batch."""
    facts, arrays = read(name)
    found = rebuild(facts)
    config = typed_model(plain(found.table), name)
    model = config.build(config.vocab_size)
    model.update(found.model.parameters())
    objective, batch = task({k: v for k, v in arrays.items() if k.startswith("train_")})
    table = {"learning_rate": 1e-3, "weight_decay": 0.1, "decay": "all", **optim}
    optimizer = AdamW(**table).build(model, steps)
    rows, length = batch["tokens"].shape
    train = Train(steps=steps, batch_size=rows, seq_len=length)
    step = Step(TrainState(model, optimizer, train), objective, train)
    return np.array([step([batch], index)["loss"].item() for index in range(steps)])


def test_there_is_one_of_each_line() -> None:
    assert {"llama", "gpt2", "bert", "t5", "mixtral", "gemma3", "deepseek_v2"} <= set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_ten_steps_follow_torch(name: str) -> None:
    expected = read(name)[1]["train_losses"]
    got = losses(name, len(expected))
    assert len(expected) == 10
    assert expected[0] - expected[-1] > 0.2, "nothing was learnt"
    assert np.abs(got - expected).max() < TOLERANCE


@pytest.mark.parametrize("change", [{"betas": (0.9, 0.99)}, {"weight_decay": 0.0}], ids=str)
def test_another_optimizer_does_not(change: dict[str, Any]) -> None:
    expected = read("llama")[1]["train_losses"]
    assert np.abs(losses("llama", 10, **change) - expected).max() > TOLERANCE
