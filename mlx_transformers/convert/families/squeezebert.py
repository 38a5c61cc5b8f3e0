"""SqueezeBERT: BERT whose maps see a group of features each; the groups are written out as zeros.

Defaults are those of `SqueezeBertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import BLOCK, Row
from ..task_heads import architecture_of
from ..transforms import Grouped
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    bert_extras,
    bert_head,
    outer_rows,
    tower,
)

PREFIX = "transformer."
EPS = 1e-12
MAPS = {
    "mixer.q": ("attention.query", "q_groups"),
    "mixer.k": ("attention.key", "k_groups"),
    "mixer.v": ("attention.value", "v_groups"),
    "mixer.o": ("post_attention.conv1d", "post_attention_groups"),
    "ffn.up": ("intermediate.conv1d", "intermediate_groups"),
    "ffn.down": ("output.conv1d", "output_groups"),
}
"""Our linear layer: the reference name, and the key of its number of groups."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a SqueezeBertConfig."""
    table = tower(config)
    config.expect("embedding_size", table["dim"])
    # the norms of the blocks don't ask for the config's number
    table["block"]["norm"] = {"kind": "layer_norm", "eps": EPS}
    return table | bert_head(config, PREFIX).tables()


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a SqueezeBERT."""
    theirs = f"{PREFIX}encoder.layers.{{i}}"
    maps = [
        Row(f"{BLOCK}.{ours}", f"{theirs}.{name}", Grouped(config.get(key)))
        for ours, (name, key) in MAPS.items()
    ]
    return [
        *outer_rows(PREFIX),
        *maps,
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.post_attention.layernorm"),
        Row(f"{BLOCK}.ffn_residual.out", f"{theirs}.output.layernorm"),
        *bert_head(config, PREFIX).rows,
    ]


def ungrouped(view: FlatModel) -> Table:
    """Return one group for every linear layer: a model trained here has no zeros to omit."""
    groups = {key: 1 for _, key in MAPS.values()}
    return groups | {"embedding_size": view.get("dim")}


SQUEEZEBERT = Family(
    model_types=("squeezebert",),
    architecture="SqueezeBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {**ENCODER_KEYS, "layer_norm_eps": "embed.norm.eps"},
        ungrouped,
        architecture_of("SqueezeBert"),
    ),
    renames=(*TENSORFLOW_NAMES, prefixed(PREFIX, *HEADS)),
    **bert_extras(PREFIX),
)
