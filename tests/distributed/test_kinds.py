"""Every kind that processes can share computes what it does whole, forward and backward."""

import json
from pathlib import Path

from train import tiny

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.layers.sharding import splits
from mlx_transformers.recipe.slot import KINDS

from . import group

COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import mlx_transformers, mlx.core as mx
from mlx.utils import tree_flatten
from contract.rows import ROWS
from contract.suite import DIM, parse
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.distributed import launch, processes
from mlx_transformers.layers.sharding import axis_of, shard_module, splits

def computed(subject, x):
    def loss(params, x):
        subject.update(params)
        y = subject(x, Context())
        return (y * mx.cos(mx.arange(y.size).reshape(y.shape))).sum()
    params = subject.trainable_parameters()
    value, (grads, of_x) = mx.value_and_grad(loss, argnums=(0, 1))(params, x)
    return {"loss": value, "x": of_x, **dict(tree_flatten(grads))}

def difference(whole, own):
    worst = 0.0
    for name, ours in own.items():
        theirs = whole[name]
        axis = axis_of(theirs, ours)
        if axis is not None:
            theirs = mx.split(theirs, 2, axis)[ranks.number]
        elif "norm" in name:  # each process knows the part of its own heads
            ours = mx.distributed.all_sum(ours, group=ranks.group)
        size = mx.maximum(mx.abs(theirs).max(), 0.1)  # below it, differences are rounding
        worst = max(worst, (mx.abs(ours - theirs).max() / size).item())
    return worst

found = []
with launch.join_job() as everyone:
    ranks = processes.tensor_parallel_ranks(everyone, 2)
    for row in ROWS:
        kind = row.parse()
        if row.slot not in ("mixer", "ffn") or not splits(type(kind)):
            continue
        if getattr(parse("position", row.position), "adds_to_scores", False):
            continue  # refused by check_parts
        try:
            part = kind.part(DIM, 2)
        except RecipeError as error:
            found.append([row.slot, row.kind, str(row), str(error)])
            continue
        whole, own = row.subject(), row.subject()
        own.it = shard_module(part.build(DIM), own.it, ranks.group)
        x = whole.inputs()
        worst = difference(computed(whole, x), computed(own, x))
        found.append([row.slot, row.kind, str(row), worst])
print(json.dumps(found))
"""


def test_every_kind_in_every_variant_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    ranks = group.launch(tmp_path, [["-c", COMPARE, str(tiny.ROOT / "tests")]] * 2)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    for rank in ranks:
        rows = json.loads(rank.out)
        refused = {row: what for _, _, row, what in rows if isinstance(what, str)}
        assert all("evenly" in said or "qk_norm_over" in said for said in refused.values())
        tried = {(slot, kind) for slot, kind, row, _ in rows if row not in refused}
        shareable = {(s, k) for s in ("mixer", "ffn") for k in KINDS[s] if can_be_shared(s, k)}
        assert tried == shareable
        wrong = {row: what for _, _, row, what in rows if row not in refused and what > 1e-5}
        assert not wrong


def can_be_shared(slot: str, kind: str) -> bool:
    return splits(KINDS[slot][kind])
