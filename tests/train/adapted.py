"""Low-rank adapters on a frozen model: a kind of this file's own, trained without other edits."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from mlx_transformers.assembly.recipe import Recipe, load_recipe  # before mlx: it chooses the BLAS

# isort: split
import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_transformers.assembly.saved import load
from mlx_transformers.layers.kinds import MixerKind
from mlx_transformers.layers.mixers.latent import Latent, LatentMixer
from mlx_transformers.layers.parameter import Role
from mlx_transformers.recipe.slot import CLOSED, fill
from mlx_transformers.runs import checkpoint
from mlx_transformers.verbs.train import train

RANK = 2


class Adapted(nn.Module):
    """A linear layer with a low-rank update (LoRA: Hu et al. 2022): `y = (W + B A) x`."""

    roles: ClassVar[dict[str, Role]] = {"weight": "matrix", "lora_a": "own", "lora_b": "own"}

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight
        out, width = layer.weight.shape
        self.lora_a = mx.random.normal((RANK, width)) / width**0.5
        self.lora_b = mx.zeros((out, RANK))

    def matrix(self) -> mx.array:
        """The effective weight, `[out, in]`."""
        return self.weight + self.lora_b @ self.lora_a

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.matrix().T


class AdaptedLatent(Latent):
    """Latent attention whose up-projection of keys and values is adapted.

    Decoding multiplies by that weight outside its layer's call.
    """

    kind: Literal["adapted_latent"] = "adapted_latent"  # type: ignore[assignment]

    def build(self, dim: int) -> LatentMixer:
        mixer = super().build(dim)
        mixer.kv = Adapted(mixer.kv)
        return mixer


# The server of forked.py has made a recipe already, without this kind.
CLOSED.clear()
fill("mixer", AdaptedLatent, of=MixerKind)
Recipe.model_rebuild(force=True)

MIXER = """model.block.mixer={kind="adapted_latent", n_heads=2, kv_rank=8, nope_dim=4, rope_dim=4,
value_dim=8, norm={kind="rms_norm"}}""".replace("\n", " ")
SETS = (
    MIXER,
    "train.freeze=['*.weight']",
    'optim.schedule={kind="constant"}',
    "train.ema=0.5",
    "checkpoint.every=6",
    "optim.learning_rate=0.05",
)


def pairs(one: Any, two: Any) -> Iterator[tuple[str, bool]]:
    """Every leaf of two trees by name, and whether it is the same in both."""
    for (name, a), (_, b) in zip(tree_flatten(one), tree_flatten(two), strict=True):
        yield name, mx.array_equal(a, b).item()


def decoded(model: Any, tokens: mx.array) -> mx.array:
    """Logits of a step per token."""
    state, found = model.init_state(1, 8), []
    for i in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, i : i + 1], state)
        found.append(logits)
    return mx.concatenate(found, axis=1)


def main(recipe: str, root: str) -> None:
    options: Any = {"root": Path(root), "say": lambda text: None}
    full = load_recipe(recipe, [*SETS, "train.steps=12"])
    whole = train(full, name="whole", **options)
    train(load_recipe(recipe, [*SETS, "train.steps=6"]), name="half", **options)
    half = train(
        load_recipe(recipe, [*SETS, "train.steps=12"]), name="half", resume="auto", **options
    )
    first, last = (checkpoint.load(whole.folder.checkpoints / f"step-{n:06d}")[0] for n in (6, 12))
    again = checkpoint.load(half.folder.newest())[0]
    model, tokens = load(whole.folder.path)[0], mx.array([[1, 2, 3, 4, 5]])
    logits, steps = model(tokens), decoded(model, tokens)
    for block in model.stack.blocks:
        block.mixer.kv.lora_b = mx.zeros_like(block.mixer.kv.lora_b)
    records = map(json.loads, whole.folder.log.read_text().splitlines())
    found = {
        "changed": [name for name, same in pairs(first["model"], last["model"]) if not same],
        "resumed": all(same for stem in last for _, same in pairs(last[stem], again[stem])),
        "moments": [name for name, _ in tree_flatten(last["optimizer"]) if name.endswith(".m")],
        "decode": mx.abs(steps - logits).max().item(),
        "effect": mx.abs(model(tokens) - logits).max().item(),
        "losses": [record["train_loss"] for record in records if "train_loss" in record],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
