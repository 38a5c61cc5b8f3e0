"""SqueezeBERT: BERT whose maps see a group of features each; the groups are written out as zeros.

Defaults are those of `SqueezeBertConfig`.
"""

from ..answers import asked
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..transforms import Grouped
from ..view import View, spelled
from ..weights import Row
from .bert import (
    BLOCK,
    HEADS,
    NAMES,
    TOWER,
    around,
    bert_answer,
    bert_extras,
    tower,
)

PREFIX = "transformer."
EPS = 1e-12
MAPS = {
    "mixer.q": ("attention.query", "q_groups", 4),
    "mixer.k": ("attention.key", "k_groups", 4),
    "mixer.v": ("attention.value", "v_groups", 4),
    "mixer.o": ("post_attention.conv1d", "post_attention_groups", 1),
    "ffn.up": ("intermediate.conv1d", "intermediate_groups", 4),
    "ffn.down": ("output.conv1d", "output_groups", 4),
}
"""Our map: theirs, and the key and the default of the number of its groups."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of a SqueezeBertConfig."""
    table = tower(config, vocab_size=30522)
    config.expect("embedding_size", table["dim"])
    # the norms of the blocks don't ask for the config's number
    table["block"]["norm"] = {"kind": "layer_norm", "eps": EPS}
    return table | bert_answer(config, PREFIX).tables()


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a SqueezeBERT."""
    theirs = f"{PREFIX}encoder.layers.{{i}}"
    maps = [
        Row(f"{BLOCK}.{ours}", f"{theirs}.{name}", Grouped(config.get(key, default)))
        for ours, (name, key, default) in MAPS.items()
    ]
    return [
        *around(PREFIX),
        *maps,
        Row(f"{BLOCK}.mixer_residual.out", f"{theirs}.post_attention.layernorm"),
        Row(f"{BLOCK}.ffn_residual.out", f"{theirs}.output.layernorm"),
        *bert_answer(config, PREFIX).rows,
    ]


def ungrouped(view: View) -> Table:
    """One group for every map: what was trained here has no zeros to leave out."""
    one = {key: 1 for _, key, _ in MAPS.values()}
    return one | {"embedding_size": view.get("dim")}


SQUEEZEBERT = Family(
    model_types=("squeezebert",),
    architecture="SqueezeBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled({**TOWER, "layer_norm_eps": "embed.norm.eps"}, ungrouped, asked("SqueezeBert")),
    renames=(*NAMES, prefixed(PREFIX, *HEADS)),
    **bert_extras(PREFIX),
)
