"""Longformer: RoBERTa's layers with windows of attention and global tokens.

Beltagy et al. 2020. Defaults are those of `LongformerConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..layer_types import patterned
from ..rows import BLOCK, Row, rows
from ..task_heads import architecture_of, task_of
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    layers,
    outer_rows,
    pad_offset,
    roberta_extras,
    roberta_head,
    tower,
)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a LongformerConfig."""
    table = tower(config, offset=config.get("pad_token_id") + 1)
    return with_windows(config, table, config.get("num_hidden_layers")) | task_tables(config)


def task_tables(config: HfConfig) -> Table:
    """Return the tables of head and pool.

    Raises:
        ConvertError: the class makes the tokens of the question global, which isn't built.
    """
    if task_of(config, "ForMaskedLM") in ("ForQuestionAnswering", "ForMultipleChoice"):
        raise config.refuse("architectures", config.architecture)
    return roberta_head(config, "longformer.").tables()


def with_windows(config: HfConfig, table: Table, n_layers: int) -> Table:
    """Return a tower's table with each layer's window in the place of full attention."""
    widths = config.get("attention_window")
    windows = [widths] * n_layers if isinstance(widths, int) else list(widths)
    if len(windows) != n_layers or any(width % 2 for width in windows):
        raise ConvertError(
            f"{config.where}: attention_window = {widths} must be even for each of {n_layers} "
            "layers."
        )
    # a classifier of sequences reads the first token, which its class makes global
    classifies = config.architecture.endswith("ForSequenceClassification")
    mixer = {**table["block"]["mixer"], "kind": "longformer", "n_global": int(classifies)}
    names = {width: f"window_{width}" for width in windows}
    variants = {
        name: {"mixer": {**mixer, "window": width // 2 + 1}} for width, name in names.items()
    }
    uniform = {
        **table,
        "block": {**table["block"], "mixer": {**mixer, "window": windows[0] // 2 + 1}},
    }
    return patterned(uniform, [names[width] for width in windows], variants)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Longformer."""
    theirs = "longformer.encoder.layer.{i}"
    return [
        *outer_rows("longformer."),
        *layers(theirs),
        *rows(
            f"{BLOCK}.mixer.global_{{q,k,v}}",
            f"{theirs}.attention.self.{{query,key,value}}_global",
        ),
        *roberta_head(config, "longformer.").rows,
    ]


def attention_windows(view: FlatModel) -> list[int]:
    """Return the whole width of each layer's window."""
    return [2 * (layer["mixer"]["window"] - 1) for layer in view.layers]


LONGFORMER = Family(
    model_types=("longformer",),
    architecture="LongformerForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**ENCODER_KEYS, "attention_window": attention_windows},
        pad_offset,
        architecture_of("Longformer"),
    ),
    renames=(*TENSORFLOW_NAMES, prefixed("longformer.", *HEADS)),
    **roberta_extras("longformer."),
)
