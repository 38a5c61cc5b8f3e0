"""Tokens/s of rollouts: many rows against one row, and against mlx-lm's batched generation.

    pip install 'mlxt[mlx-lm]'
    python tools/bench_rollouts.py [--json FILE] [--rows 32] [--rounds 3]

One LLaMA of random weights continues prompts of different lengths, at temperature 1; our side keeps
the log-probability of every token, mlx-lm's doesn't. The sides take turns in one process, so that a
machine that slows down slows all; the median of the rounds counts. Without mlx-lm its figures are
null.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench_sides import mlx_lm_model

import mlx_transformers.assembly.registry  # noqa: F401  before mlx: the same BLAS for both sides

# isort: split
import mlx.core as mx
import numpy as np

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.decode.continuous import ContinuousEngine
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.models.model import Decodable

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "llama_tiny.toml"
VOCAB = 2048


def main() -> None:
    args = parse()
    model = built(args)
    prompts = prompts_of(args)
    sides: dict[str, Callable[[], int]] = {
        "one_row": ours(model, prompts[: args.one], args, rows=1),
        "rows": ours(model, prompts, args, rows=args.rows),
    }
    if importlib.util.find_spec("mlx_lm") is not None:
        sides["mlx_lm"] = theirs(prompts, args)
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds + 1):  # the first round compiles
        for name, run in sides.items():
            began = time.perf_counter()
            tokens = run()
            if number:
                speeds[name].append(tokens / (time.perf_counter() - began))
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    other = middle.get("mlx_lm")
    found = {
        "machine": platform.platform(),
        "rows": args.rows,
        "tokens_per_s": {"mlx_lm": None, **middle},
        "rows_over_one_row": middle["rows"] / middle["one_row"],
        "rows_over_mlx_lm": other and middle["rows"] / other,
    }
    print(json.dumps(found, indent=2))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Sizes of the model and of the rollout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {
        "dim": 256,
        "layers": 6,
        "heads": 8,
        "kv-heads": 4,
        "hidden-dim": 704,
        "rows": 32,
        "prompts": 64,
        "tokens": 64,
        "one": 2,
        "rounds": 3,
    }
    helps = {"one": "prompts of the side with one row", "tokens": "tokens of a completion"}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=helps.get(name))
    parser.add_argument("--json", help="file that the figures are written to")
    return parser.parse_args()


def built(args: argparse.Namespace) -> Decodable:
    """Our model."""
    sets = [f"model.dim={args.dim}", f"model.n_layers={args.layers}", f"model.vocab_size={VOCAB}"]
    sets += [f"model.block.mixer.n_heads={args.heads}"]
    sets += [f"model.block.mixer.n_kv_heads={args.kv_heads}"]
    sets += [f"model.block.ffn.hidden_dim={args.hidden_dim}"]
    model = load_recipe(RECIPE, sets).model.build(VOCAB)
    assert isinstance(model, Decodable)
    mx.eval(model.parameters())
    return model


def prompts_of(args: argparse.Namespace) -> list[list[int]]:
    """Prompts of 8 to 32 tokens."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCAB, rng.integers(8, 33)).tolist() for _ in range(args.prompts)]


def ours(
    model: Decodable, prompts: list[list[int]], args: argparse.Namespace, rows: int
) -> Callable[[], int]:
    """A function that completes the prompts and returns the number of tokens."""
    engine = ContinuousEngine(model, rows=rows, sampling=Sampling(temp=1.0))

    def run() -> int:
        done = engine.complete(prompts, range(len(prompts)), max_tokens=args.tokens)
        return sum(len(completion.tokens) for completion in done)

    return run


def theirs(prompts: list[list[int]], args: argparse.Namespace) -> Callable[[], int]:
    """The same with mlx-lm."""
    from mlx_lm import batch_generate
    from mlx_lm.sample_utils import make_sampler

    model = mlx_lm_model(args, VOCAB)
    tokenizer: Any = SimpleNamespace(eos_token_ids=set(), decode=lambda tokens: "")

    def run() -> int:
        done = batch_generate(
            model,
            tokenizer,
            prompts,
            max_tokens=args.tokens,
            return_token_ids=True,
            completion_batch_size=args.rows,
            sampler=make_sampler(1.0),
        )
        return sum(len(tokens) for tokens in done.token_ids)

    return run


if __name__ == "__main__":
    main()
