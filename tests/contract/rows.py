"""All rows, and which slots have them."""

from . import (
    adapters,
    aheads,
    aligns,
    batches,
    blocks,
    cells,
    clips,
    depths,
    embeds,
    ffns,
    heads,
    inits,
    mixers,
    models,
    norms,
    objectives,
    optims,
    pools,
    positions,
    recurrences,
    rewards,
    routers,
    scalings,
    schedules,
    signals,
    sources,
    tokenizers,
)
from .suite import SUBJECTS, Row

FILES = {
    "adapt": adapters,
    "mixer": mixers,
    "block": blocks,
    "ahead": aheads,
    "align": aligns,
    "cell": cells,
    "recurrence": recurrences,
    "ffn": ffns,
    "norm": norms,
    "depth": depths,
    "router": routers,
    "position": positions,
    "scaling": scalings,
    "embed": embeds,
    "head": heads,
    "pool": pools,
    "init": inits,
    "model": models,
    "objective": objectives,
    "optim": optims,
    "clip": clips,
    "schedule": schedules,
    "batch": batches,
    "source": sources,
    "reward": rewards,
    "signal": signals,
    "tokenizer": tokenizers,
}
"""The file that holds the rows of a slot."""

ALL: list[Row] = [row for file in FILES.values() for row in file.ROWS]

ROWS: list[Row] = [row for row in ALL if row.slot in SUBJECTS]
"""The rows whose kinds are modules, so that they buy everything in test_contract.py."""

STEPPING = [
    row
    for row in ROWS
    if row.slot in ("mixer", "block", "cell", "recurrence", "position", "embed", "model")
    and row.steps
    and not row.whole
]
"""Those that can go on from where they stood."""
