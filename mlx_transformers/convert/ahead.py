"""Layers that predict further tokens, which DeepSeek-V3 and GLMs publish behind the last one.

transformers passes them over. Here they are what a model looks ahead with, and train further. Their
own copies of the embedding and the head are those of the model: DeepSeek-V3, section 2.2.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .config import HfConfig
from .transforms import Split
from .view import View
from .weights import Row, rows

Table = dict[str, Any]
OURS, THEIRS = "stack.blocks.{i}", "model.layers.{i}"
KEY = "num_nextn_predict_layers"
COPIES = (
    (r"model\.layers\.\d+\.embed_tokens\.weight", "model.embed_tokens.weight"),
    (r"model\.layers\.\d+\.shared_head\.head\.weight", "lm_head.weight"),
)
"""Names of the copies, and what they are copies of."""


def looking_ahead(config: HfConfig, table: Table) -> Table:
    """A table with what looks ahead, where the file holds it: its config may tell what it lacks."""
    n = steps(config)
    return table | {"ahead": {"kind": "mtp", "n": n}} if n else table


def steps(config: HfConfig) -> int:
    """How many layers there are behind the last one; without a file, as many as are told."""
    config.ignore("num_mtp_layers")
    told: int = config.get(KEY, 0) or 0
    if not config.tensors:
        return told
    last = config.get("num_hidden_layers") - 1
    numbers = [re.match(r"model\.layers\.(\d+)\.", name) for name in config.tensors]
    return max(0, max((int(found[1]) for found in numbers if found), default=0) - last)


def ahead_rows(config: HfConfig, block: Sequence[Row]) -> list[Row]:
    """The rows of what looks ahead, whose blocks have those of the model's own."""
    dim, first = config.get("hidden_size"), config.get("num_hidden_layers")
    found = []
    for k in range(steps(config)):
        step, theirs = f"ahead.chain.{k}", f"model.layers.{first + k}"
        # they join the word first
        halves = (f"{step}.of_word", f"{step}.of_hidden")
        found += [
            *rows(
                f"{step}.{{hidden_norm,word_norm,norm}}",
                f"{theirs}.{{hnorm,enorm,shared_head.norm}}",
            ),
            Row(halves, f"{theirs}.eh_proj", Split((dim, dim), axis=1)),
            *(_moved(row, f"{step}.block", theirs) for row in block if OURS in str(row.ours)),
        ]
    return found


def said_ahead(view: View) -> Table:
    """How many layers there are behind the last one."""
    return {KEY: view.get("ahead.n") if view.has("ahead") else 0}


def _moved(row: Row, ours: str, theirs: str) -> Row:
    """A row of a layer as that of one layer alone."""

    def named(names: str | tuple[str, ...], old: str, new: str) -> str | tuple[str, ...]:
        if isinstance(names, str):
            return names.replace(old, new)
        return tuple(name.replace(old, new) for name in names)

    return replace(row, ours=named(row.ours, OURS, ours), theirs=named(row.theirs, THEIRS, theirs))
