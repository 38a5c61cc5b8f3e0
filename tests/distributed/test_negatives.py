"""Every row is a negative of those of all ranks: losses and gradients are those of one process."""

import json
from pathlib import Path

import numpy as np
import pytest
from train import tiny

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.verbs.train import train

from . import group
from .test_equal import weights

COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import mlx_transformers, mlx.core as mx, numpy as np
from mlx.utils import tree_flatten
from contract.models import BERT, CLIP
from contract.suite import parse, randomize
from mlx_transformers.core.context import Context
from mlx_transformers.core.peers import ALONE
from mlx_transformers.distributed import launch

draw = np.random.default_rng(0).integers
tokens = lambda n: draw(0, 13, (4, n)).astype(np.int32)
valid, weights = np.arange(7) < np.array([[7], [4], [5], [6]]), np.float32([1, 1, 1, 0])
pictures = {"pixels": tokens(9), "tokens": tokens(7), "valid": valid, "weights": weights}
texts = {"a": tokens(7), "a_valid": valid, "b": tokens(7), "b_valid": valid, "weights": weights}
pooled = BERT | {"head": None, "pool": {"kind": "sentence"}, "embed": {"kind": "token"}}
CASES = {
    "clip": (CLIP, {"kind": "clip"}, pictures),
    "siglip": (CLIP | {"logit_bias": -1.0}, {"kind": "clip", "loss": "sigmoid"}, pictures),
    "contrastive": (pooled, {"kind": "contrastive", "symmetric": True}, texts),
}

def computed(model, objective, batch, peers):
    def loss(params):
        model.update(params)
        out = objective.build_among(peers)({"model": model}, batch, Context())
        return out.total, {"weight": out.weight, **out.parts}
    (total, parts), grads = mx.value_and_grad(loss)(model.trainable_parameters())
    return {"total": total, **parts, **dict(tree_flatten(grads))}

found = {}
with launch.join_job() as ranks:
    for name, (table, objective, batch) in CASES.items():
        model = randomize(parse("model", table).build(13), 0)
        objective = parse("objective", objective)
        arrays = {key: mx.array(array) for key, array in batch.items()}
        mine = {key: array[2 * ranks.rank : 2 * ranks.rank + 2] for key, array in arrays.items()}
        whole = computed(model, objective, arrays, ALONE)
        parts = ranks.all_reduce(computed(model, objective, mine, ranks))
        off = {key: mx.abs(parts[key] - whole[key]).max().item() for key in whole}
        size = {key: mx.abs(whole[key]).max().item() for key in whole}
        found[name] = [max(off[key] / max(size[key], 1e-2) for key in off), len(off)]
print(json.dumps(found))
"""


def test_the_gradient_of_a_contrastive_loss_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    ranks = group.launch(tmp_path, [["-c", COMPARE, str(tiny.ROOT / "tests")]] * 2)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    for rank in ranks:
        found = json.loads(rank.out)
        assert found.keys() == {"clip", "siglip", "contrastive"}
        for name, (worst, n) in found.items():
            assert worst < 1e-4, name
            assert n > 20


def test_two_ranks_learn_pictures_as_one_does(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).integers
    rows = [
        {"image": " ".join(map(str, draw(0, 256, 64))), "text": f"{tiny.WORDS[i % 11]} {i}"}
        for i in range(40)
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    sets = [
        *(f"model.vision.{key}" for key in ("image_size=[8,8]", "embed.size=4", "n_layers=1")),
        *("model.vision.position.rows=2", "model.vision.position.columns=2"),
        *("model.vision.block.dropout=0.0", "model.text.block.dropout=0.0"),
        *(f"data.path={path}", f"data.valid_path={path}", "data.batch.size=[8,8]"),
        *("data.tokenizer={kind='words'}", "data.batch.shift=0", "train.steps=4"),
        *("train.batch_size=8", "eval.batch_size=8", "eval.every=2", "checkpoint.every=2"),
        *("optim.schedule.warmup=1", "log.every=1"),
    ]
    recipe = tiny.ROOT / "recipes" / "multimodal" / "clip_tiny.toml"
    words = ["train", str(recipe), "--name", "two", *(w for s in sets for w in ("--set", s))]
    ranks = group.launch(tmp_path, [group.mlxt(*words)] * 2)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    one = train(
        load_recipe(recipe, sets), name="one", root=tmp_path / "runs", say=lambda text: None
    )
    two, keys = group.run(tmp_path), ("val_loss", "val_accuracy")
    assert group.series(two, *keys) == pytest.approx(group.series(one.folder.path, *keys), rel=1e-4)
    ours, theirs = weights(two), weights(one.folder.path)
    for name, value in ours.items():
        if name.endswith("k.bias"):
            continue  # softmax takes it out: its gradient is rounding, which Adam makes large
        np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-4, err_msg=name)
