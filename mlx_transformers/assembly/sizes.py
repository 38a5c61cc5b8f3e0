"""Refuses sizes that no machine can hold, by arithmetic alone, before anything is built."""

from collections.abc import Iterator

from ..models.model import ModelKind
from ..recipe.config import Config
from ..trainer.config import Eval, Train

MAX_DIMENSION = 2**31 - 1
"""Largest size of one axis of an MLX array."""
MAX_LAYERS = 10_000
MAX_WEIGHTS = 2**36
"""Weights of one matrix: 256 GiB in float32."""
MAX_TOKENS = 2**31
"""Tokens of a step."""


def check_model_sizes(model: ModelKind) -> None:
    """Raise ValueError, naming the key, for a dimension or a depth that no machine holds."""
    sizes = dict(integers(model, "model"))
    dim = sizes.get("model.dim", 1)
    for path, value in sizes.items():
        if value > MAX_DIMENSION:
            raise ValueError(
                f"{path} = {value:,} is more than the largest dimension of an array, "
                f"{MAX_DIMENSION:,}."
            )
        if path.endswith("n_layers") and value > MAX_LAYERS:
            raise ValueError(f"{path} = {value:,}: more than {MAX_LAYERS:,} layers can't be built.")
        if value * dim > MAX_WEIGHTS:
            raise ValueError(
                f"{path} = {value:,} with model.dim = {dim:,} makes arrays of {value * dim:,} "
                "numbers, which no machine holds. Choose smaller ones."
            )


def check_step_sizes(train: Train, evaluation: Eval) -> None:
    """Raise ValueError, naming the key, for more tokens at once than any machine holds."""
    rows = {
        "train.batch_size": train.batch_size * train.accumulate,
        "eval.batch_size": evaluation.batch_size or 1,
    }
    for path, n in rows.items():
        if n * train.seq_len > MAX_TOKENS:
            raise ValueError(
                f"{path}: {n:,} rows of {train.seq_len:,} tokens are more than {MAX_TOKENS:,} "
                "tokens at once. Take fewer or shorter rows."
            )


def integers(config: Config, path: str) -> Iterator[tuple[str, int]]:
    """Every integer of a table and of the tables in it, with its path."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        nested = value if isinstance(value, dict) else {"": value}
        for key, item in nested.items():
            where = f"{path}.{name}.{key}" if key else f"{path}.{name}"
            if isinstance(item, Config):
                yield from integers(item, where)
            elif isinstance(item, int) and not isinstance(item, bool):
                yield where, item
