"""Parts of the benchmarks of a training step: sizes, clocks, and the trainers that read them.

Our trainer's loop and mlx-lm's are timed in the same way: some steps to warm up, then the clocks
before and after the others. mlx-lm and MLX are imported by the process of the side that needs them.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from resident import peak_mib

import mlx_transformers  # noqa: F401  puts the same BLAS and kernels in front of all sides

Clocks = tuple[float, float]
WARMUP = 3
SIZES = {
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
"""A LLaMA of 5.5M parameters and its batch."""


def add_sizes(parser: argparse.ArgumentParser, sizes: dict[str, int]) -> None:
    """Add an option for each size."""
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)


def rows(args: argparse.Namespace) -> list[list[int]]:
    """Draw the same random rows for every side."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = (args.batch * (args.steps + WARMUP), args.length + 1)
    return draw.integers(0, args.vocab, shape).tolist()


def clocks() -> Clocks:
    """Return wall-clock seconds, and those that all threads of this process computed."""
    return time.perf_counter(), time.process_time()


def speed(tokens: int, before: Clocks, after: Clocks, share: float = 1.0) -> dict[str, float]:
    """Return tokens a second by both clocks, where this process had its share of them."""
    wall, computed = (b - a for a, b in zip(before, after, strict=True))
    return {"tokens_per_s": tokens / wall, "tokens_per_cpu_s": tokens * share / computed}


def settings(args: argparse.Namespace, shared: int = 1) -> list[str]:
    """Return a recipe's settings: the sizes asked for, and nothing in the way of the step."""
    return [
        f"model.dim={args.dim}",
        f"model.n_layers={args.layers}",
        f"model.max_seq_len={args.length}",
        f"model.block.mixer.n_heads={args.heads}",
        f"model.block.mixer.n_kv_heads={args.kv_heads}",
        f"model.block.ffn.hidden_dim={args.hidden_dim}",
        f"train.steps={args.steps + WARMUP}",
        f"train.batch_size={args.batch}",
        f"train.seq_len={args.length}",
        f"train.tensor_parallel={shared}",
        "train.clip={kind='none'}",
        "optim.learning_rate=1e-5",
        "optim.schedule={kind='constant'}",
        *args.set,
    ]


def run_ours(
    step: Any, batches: Sequence[Any], train: Any
) -> tuple[list[Clocks], dict[str, float]]:
    """Run our trainer's loop on batches, arrays by name or tokens `[B, T + 1]` alone, with a
    callback that reads the clocks; returns the readings, and the figures of this process."""
    import mlx.core as mx

    from mlx_transformers.runs.progress import Progress
    from mlx_transformers.trainer.loop import Trainer

    class Feed:
        cursor: dict[str, Any] = {}  # noqa: RUF012
        tokens_per_s = 0.0
        shapes = 1
        source = iter(batches)

        def __next__(self) -> dict[str, Any]:
            batch = next(self.source)
            return batch if isinstance(batch, dict) else {"tokens": batch}

    marks: list[Clocks] = []
    last: dict[str, mx.array] = {}

    def clock(trainer: Trainer, metrics: dict[str, mx.array]) -> None:
        if trainer.progress.step in (WARMUP, train.steps):
            mx.eval(metrics, step.state)
            marks.append(clocks())
        if trainer.progress.step == WARMUP:
            mx.reset_peak_memory()
        last.update(metrics)

    Trainer(step, Feed(), train, [clock], Progress()).run()
    return marks, figures(last["loss"].item())


def mlx_lm_model(args: argparse.Namespace, vocab_size: int) -> Any:
    """Build mlx-lm's LLaMA of the same sizes."""
    import mlx.core as mx
    from mlx_lm.models.llama import Model, ModelArgs

    model = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=args.dim,
            num_hidden_layers=args.layers,
            intermediate_size=args.hidden_dim,
            num_attention_heads=args.heads,
            num_key_value_heads=args.kv_heads,
            rms_norm_eps=1e-5,
            vocab_size=vocab_size,
            tie_word_embeddings=True,
        )
    )
    mx.eval(model.parameters())
    return model


def run_mlx_lm(model: Any, args: argparse.Namespace) -> dict[str, float]:
    """Run mlx-lm's trainer, with a callback that reads the clocks; returns this process's
    figures."""
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train

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
                adapter_file=f"{folder}/adapters.safetensors",
            ),
            training_callback=Clock(),
        )
    tokens = args.steps * args.batch * args.length
    return speed(tokens, *marks) | figures(losses[-1])


def figures(loss: float) -> dict[str, float]:
    """Memory of this process, and its last loss."""
    import mlx.core as mx

    return {
        "peak_mib": mx.get_peak_memory() / 2**20,
        "rss_mib": peak_mib(),
        "loss": loss,
    }
