"""Multi-token-prediction layers, which DeepSeek-V3 and GLMs publish after the last layer.

transformers ignores them; here they are imported and can be trained further. Their copies of the
embedding and the head are tied to the model's: DeepSeek-V3, section 2.2.
"""

import re
from collections.abc import Sequence

from ..recipe.merge import Table
from .config import HfConfig
from .flat_model import FlatModel
from .rows import BLOCK, Row, moved, rows
from .transforms import Split

HF_BLOCK = "model.layers.{i}"
KEY = "num_nextn_predict_layers"
COPIES = (
    (r"model\.layers\.\d+\.embed_tokens\.weight", "model.embed_tokens.weight"),
    (r"model\.layers\.\d+\.shared_head\.head\.weight", "lm_head.weight"),
)
"""Patterns of the copies, and the tensors that they copy."""


def with_mtp(config: HfConfig, table: Table) -> Table:
    """Return a table with multi-token prediction if the file has its layers."""
    n = steps(config)
    return table | {"ahead": {"kind": "mtp", "n": n}} if n else table


def steps(config: HfConfig) -> int:
    """Return the number of multi-token-prediction layers: in the file, else in the config."""
    config.ignore("num_mtp_layers")
    configured: int = config.get(KEY) if KEY in config else 0
    if not config.tensors:
        return configured
    last: int = config.get("num_hidden_layers") - 1
    numbers = [re.match(r"model\.layers\.(\d+)\.", name) for name in config.tensors]
    return max(0, max((int(match[1]) for match in numbers if match), default=0) - last)


def mtp_rows(config: HfConfig, block: Sequence[Row]) -> list[Row]:
    """Return the rows of the multi-token-prediction layers, whose blocks are like the model's."""
    dim, first = config.get("hidden_size"), config.get("num_hidden_layers")
    weight_map = []
    for k in range(steps(config)):
        step, theirs = f"ahead.chain.{k}", f"model.layers.{first + k}"
        # they join the word first
        halves = (f"{step}.of_word", f"{step}.of_hidden")
        weight_map += [
            *rows(
                f"{step}.{{hidden_norm,word_norm,norm}}",
                f"{theirs}.{{hnorm,enorm,shared_head.norm}}",
            ),
            Row(halves, f"{theirs}.eh_proj", Split((dim, dim), axis=1)),
            *moved(block, (BLOCK, f"{step}.block"), (HF_BLOCK, theirs)),
        ]
    return weight_map


def mtp_config(view: FlatModel) -> Table:
    """Return the key of the number of multi-token-prediction layers."""
    return {KEY: view.get("ahead.n") if view.has("ahead") else 0}
