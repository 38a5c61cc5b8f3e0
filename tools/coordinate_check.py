"""Coordinate check of μP: how far a few updates move the activations of models of several widths.

    python tools/coordinate_check.py                   the table, with μP and without
    python tools/coordinate_check.py --widths 64,256 --steps 8

With μP the numbers of a column stay as the width grows; with one learning rate for all widths they
grow (Yang et al. 2022, "Tensor Programs V", section 5 and appendix D.1).
"""

import argparse

import numpy as np

from mlx_transformers.assembly.build import Built, build
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.streams import training_feed
from mlx_transformers.core.context import Context
from mlx_transformers.models.model import causal_decoder
from mlx_transformers.trainer.forward import Batch
from mlx_transformers.trainer.loop import arrays

HEAD_DIM, BASE = 16, 32


def recipe_sets(width: int, mup: bool, rate: float, seed: int) -> list[str]:
    """The settings of one model: heads of one size, an ffn that grows with the width."""
    sets = [
        f"model.dim={width}",
        f"model.block.mixer.n_heads={width // HEAD_DIM}",
        f"model.block.ffn.hidden_dim={4 * width}",
        "model.head.tied=false",
        "model.init={kind='fan_in', embed_std=1.0}",
        "data.tokenizer={kind='byte'}",
        f"optim={{kind='adam', learning_rate={rate}}}",
        f"train.seed={seed}",
        "train.seq_len=64",
    ]
    if mup:
        sets[4] = f"model.init={{kind='mup', base_dim={BASE}, embed_std=1.0}}"
        sets[6] = f"optim={{kind='adam', learning_rate={rate}, base_dim={BASE}}}"
    return sets


def seen(built: Built, batch: Batch) -> dict[str, np.ndarray]:
    """The last features and the logits of a batch, without dropout."""
    model, tokens = causal_decoder(built.model), batch["tokens"][:, :-1]
    assert model is not None
    ctx = Context()
    features = model.features(model.embedded({"tokens": tokens}, ctx), ctx)
    return {"features": np.array(features), "logits": np.array(model(tokens, Context()))}


def moved(sets: list[str], recipe: str, steps: int) -> dict[str, float]:
    """The root mean square change of each activation after so many updates."""
    built = build(load_recipe(recipe, sets))
    feed = training_feed(built)
    *batches, held = [arrays(batch) for batch in feed.preview(steps + 1)]
    feed.close()
    before = seen(built, held)
    for index, batch in enumerate(batches):
        built.step([batch], index)
    after = seen(built, held)
    return {n: float(np.sqrt(np.mean((after[n] - before[n]) ** 2))) for n in before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="llama_tiny")
    parser.add_argument("--widths", default="32,64,128,256")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("| width | features | logits | features, μP | logits, μP |\n|---:|---:|---:|---:|---:|")
    for width in map(int, args.widths.split(",")):
        cells = []
        for mup in (False, True):
            sets = recipe_sets(width, mup, args.rate, args.seed)
            cells += [f"{x:.3f}" for x in moved(sets, args.recipe, args.steps).values()]
        print(f"| {width} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
