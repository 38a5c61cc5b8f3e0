"""Our training step against mlx-lm's, on the same LLaMA, batch, data and BLAS.

    pip install 'mlxt[mlx-lm]'; python tools/bench_step.py [--dim 256 ...] [--rounds 3]

Both sides run as their own trainers run them, each in a process of its own so that peak memory is
its own, in turns (ours, theirs, ours, ...) so that a machine that slows down slows both. Printed:
tokens/s and peak memory of every round, and the ratios of the medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys

from bench_parallel import Clocks, clocks, settings, speed

import mlx_transformers  # noqa: F401  puts the same BLAS and kernels in front of both sides

WARMUP = 3


def main() -> None:
    args = parse()
    if args.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[args.side](args)))
        return
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for number in range(args.rounds):
        for side, results in sides.items():
            command = [sys.executable, __file__, "--side", side, *sys.argv[1:]]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            shown = results[-1]
            print(
                f"round {number + 1} {side:>6}: {shown['tokens_per_s']:8,.0f} tokens/s, "
                f"peak {shown['peak_mib']:6,.0f} MiB, loss {shown['loss']:.4f}",
                flush=True,
            )
    middle = {
        side: {name: statistics.median(r[name] for r in results) for name in results[0]}
        for side, results in sides.items()
    }
    print(f"tokens/s     ours / mlx-lm = {ratio(middle, 'tokens_per_s'):.2f}")
    print(f"peak memory  ours / mlx-lm = {ratio(middle, 'peak_mib'):.2f}")


def ratio(middle: dict[str, dict[str, float]], name: str) -> float:
    """Ours by theirs."""
    return middle["ours"][name] / middle["theirs"][name]


def parse() -> argparse.Namespace:
    """Sizes of the model and the batch; the defaults make 5.5M parameters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {
        "dim": 256,
        "layers": 6,
        "heads": 8,
        "kv-heads": 4,
        "hidden-dim": 704,
        "vocab": 4096,
        "batch": 8,
        "length": 256,
        "steps": 12,
        "rounds": 3,
    }
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument(
        "--set", action="append", default=[], help="a recipe's key=value, ours only"
    )
    return parser.parse_args()


def rows(args: argparse.Namespace) -> list[list[int]]:
    """The same random rows for both."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = (args.batch * (args.steps + WARMUP), args.length + 1)
    return draw.integers(0, args.vocab, shape).tolist()


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Our trainer's loop, with a moment that reads the clock."""
    import mlx.core as mx
    import numpy as np

    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.runs.progress import Progress
    from mlx_transformers.trainer.loop import Trainer
    from mlx_transformers.trainer.state import TrainState
    from mlx_transformers.trainer.step import Step

    recipe = load_recipe("recipes/llama_tiny.toml", settings(args))
    mx.random.seed(0)
    model = recipe.model.build(args.vocab)
    optimizer = recipe.optim.build(model, recipe.train.steps)
    state = TrainState(model, optimizer, recipe.train)
    step = Step(state, recipe.objective.build(), recipe.train)
    batches = np.array(rows(args), np.int32).reshape(-1, args.batch, args.length + 1)

    class Feed:
        cursor: dict = {}  # noqa: RUF012
        tokens_per_s = 0.0
        shapes = 1
        source = iter(batches)

        def __next__(self) -> dict:
            return {"tokens": next(self.source)}

    marks: list[Clocks] = []
    last: dict = {}

    def clock(trainer: Trainer, metrics: dict) -> None:
        if trainer.progress.step in (WARMUP, recipe.train.steps):
            mx.eval(metrics, step.state)
            marks.append(clocks())
        if trainer.progress.step == WARMUP:
            mx.reset_peak_memory()
        last.update(metrics)

    Trainer(step, Feed(), recipe.train, [clock], Progress()).run()
    tokens = args.steps * args.batch * args.length
    return speed(tokens, *marks) | {
        "peak_mib": mx.get_peak_memory() / 2**20,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": last["loss"].item(),
    }


def theirs(args: argparse.Namespace) -> dict[str, float]:
    """mlx-lm's trainer, with a callback that reads the clock."""
    import tempfile

    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.models.llama import Model, ModelArgs
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train

    mx.random.seed(0)
    model = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=args.dim,
            num_hidden_layers=args.layers,
            intermediate_size=args.hidden_dim,
            num_attention_heads=args.heads,
            num_key_value_heads=args.kv_heads,
            rms_norm_eps=1e-5,
            vocab_size=args.vocab,
            tie_word_embeddings=True,
        )
    )
    mx.eval(model.parameters())
    marks: list[Clocks] = []
    losses: list[float] = []

    class Clock(TrainingCallback):
        def on_train_loss_report(self, train_info: dict) -> None:
            losses.append(train_info["train_loss"])
            if train_info["iteration"] in (WARMUP, WARMUP + args.steps):
                marks.append(clocks())
            if train_info["iteration"] == WARMUP:
                mx.reset_peak_memory()

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            optim.AdamW(1e-5, betas=[0.9, 0.95], weight_decay=0.1),
            [(row, 0) for row in rows(args)],
            None,
            args=TrainingArgs(
                batch_size=args.batch,
                iters=WARMUP + args.steps,
                steps_per_report=WARMUP,
                steps_per_save=10**9,
                max_seq_length=args.length + 1,
                adapter_file=f"{folder}/weights.safetensors",
            ),
            training_callback=Clock(),
        )
    tokens = args.steps * args.batch * args.length
    return speed(tokens, *marks) | {
        "peak_mib": mx.get_peak_memory() / 2**20,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": losses[-1],
    }


if __name__ == "__main__":
    main()
