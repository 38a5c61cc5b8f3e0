"""Perplexity, size and speed of quantized and pruned runs, as tables in Markdown.

    python tools/compression_table.py quantize RUN
    python tools/compression_table.py prune RUN
    python tools/compression_table.py cache RUN
    python tools/compression_table.py smaller RUN --others RUN,RUN

Every result is made by the verb that the table stands for, in a temporary folder, and measured on
text that the method did not read. `--peer FOLDER` writes the run for mlx-lm and the same rows of
text, which `python tools/peer_mlx_lm.py FOLDER` then measures where mlx-lm is installed.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx_transformers.assembly.registry  # noqa: F401  before mlx: fills the slots

# isort: split
import mlx.core as mx
import numpy as np

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.compress.fidelity import Fidelity
from mlx_transformers.data.kinds import BatchSetting
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.stream import EvalStream
from mlx_transformers.decode.cache_size import state_bytes
from mlx_transformers.decode.packed_cache import BITS, CachePacking, packed_caches
from mlx_transformers.layers.packed import packed_layers
from mlx_transformers.ops.distillation import kl, log_softmax
from mlx_transformers.runs.folder import find_checkpoint
from mlx_transformers.verbs.derived_run import origin_of
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.prune import Settings as PruneSettings
from mlx_transformers.verbs.prune import prune, sizes
from mlx_transformers.verbs.quantize import Settings, bits_per_weight, quantize
from mlx_transformers.verbs.text_sample import Sample, sample_text

METHODS = ("plain", "gptq", "awq", "mixed")
PRUNERS = ("magnitude", "magnitude_global", "wanda", "sparsegpt")
MIB = 2**20


def main() -> None:
    """Print the table that is asked for."""
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        TABLES[options.table](options, Path(folder))


def quantized(options: argparse.Namespace, root: Path) -> None:
    """Perplexity, or KL from the source, by bits and method."""
    print("| bits | bits per weight | MiB | " + " | ".join(options.methods) + " |")
    print("|" + "---|" * (3 + len(options.methods)), flush=True)
    if options.peer is not None:
        write_peer(options)
    for bits in options.bits:
        cells, size, per_weight = [], 0.0, 0.0
        for method in options.methods:
            made, found = one(options, root, bits, method)
            value = found.kl if options.kl else math.exp(found.loss_after)
            cells.append(f"{value:.3f}")
            if method == "plain" or not size:
                size, per_weight = megabytes(made), measured_bits(made)
        row = [str(bits), f"{per_weight:.2f}", f"{size:.2f}", *cells]
        print(f"| {' | '.join(row)} |", flush=True)
    before = math.exp(found.loss_before)
    print(f"\nIn float32: {megabytes(find_checkpoint(options.run)[1]):.2f} MiB, {before:.3f}.")


def one(options: argparse.Namespace, root: Path, bits: int, method: str) -> tuple[Path, Fidelity]:
    """The checkpoint of a quantized run, and its figures."""
    how = Settings(
        bits,
        options.group_size,
        method=method,
        calibrate=options.calibrate,
        dtype=options.dtype,
        anyway=True,
    )
    folder, found = quantize(options.run, how, name=f"{method}-{bits}", root=root, say=quiet)
    return find_checkpoint(str(folder.path))[1], found


def pruned(options: argparse.Namespace, root: Path) -> None:
    """Perplexity by sparsity and method."""
    print("| sparsity | " + " | ".join(PRUNERS) + " |")
    print("|" + "---|" * (1 + len(PRUNERS)), flush=True)
    for sparsity in options.sparsities:
        cells = []
        for method in PRUNERS:
            how = PruneSettings(method, sparsity, calibrate=options.calibrate, anyway=True)
            name = f"{method}-{sparsity}"
            found = prune(options.run, how, name=name, root=root, say=quiet)[1]
            cells.append(f"{math.exp(found.loss_after):.3f}")
        print(f"| {sparsity:.0%} | {' | '.join(cells)} |", flush=True)
    print(f"\nDense: {math.exp(found.loss_before):.3f}.")


def cached(options: argparse.Namespace, root: Path) -> None:
    """Bytes of the KV cache per token, and what few bits change, by bits."""
    text, model = rows_of(options)
    plain = [after_steps(model, rows, None)[0] for rows in text.held_out]
    n = sum(len(rows) * (rows.shape[1] - 1) for rows in text.held_out)
    print("| bits | KiB per token | KL, nats per token | perplexity |")
    print("|---|---|---|---|", flush=True)
    for packing in (None, *(CachePacking(bits, options.group_size) for bits in BITS)):
        divergence = loss = 0.0
        for rows, before in zip(text.held_out, plain, strict=True):
            after, size = after_steps(model, rows, packing)
            divergence += kl(before, after).sum().item()
            loss -= mx.take_along_axis(after, rows[:, 1:, None], axis=-1).sum().item()
        bits = "float32" if packing is None else packing.bits
        print(f"| {bits} | {size:.2f} | {divergence / n:.2g} | {math.exp(loss / n):.3f} |")


def smaller(options: argparse.Namespace, root: Path) -> None:
    """Parameters, loss and the speed of reading of runs made from the first, by turns; the loss is
    that on the validation split of the first."""
    models = {run: load(run)[0] for run in (options.run, *options.others)}
    text = validation(options.run)
    rows = text[0][:1]
    seconds: dict[str, list[float]] = {run: [] for run in models}
    for turn in range(options.rounds + 1):
        for run, model in models.items():
            began = time.process_time() if options.busy else time.perf_counter()
            mx.eval(model(rows[:, :-1]))
            ended = time.process_time() if options.busy else time.perf_counter()
            seconds[run] += [ended - began] if turn else []
    print("| run | parameters | in layers | loss, nats per token | tokens/s | times as fast |")
    print("|---|---|---|---|---|---|", flush=True)
    for run, model in models.items():
        fast = [(rows.size - 1) / statistics.median(seconds[each]) for each in (run, options.run)]
        cells = [f"{n:,}" for n in sizes(model)] + [f"{mean_loss(model, text):.3f}"]
        cells += [f"{fast[0]:,.0f}", f"{fast[0] / fast[1]:.2f}"]
        print(f"| {Path(run).name} | {' | '.join(cells)} |", flush=True)


def validation(run: str) -> list[mx.array]:
    """Batches of rows `[B, T + 1]` of the validation split of a run."""
    recipe = load_recipe(find_checkpoint(run)[0].recipe)
    data, length = prepare(recipe.data), recipe.train.seq_len
    stream = EvalStream(data, BatchSetting(length, batch_size=8), kind=recipe.data.batch, batches=8)
    return [mx.array(batch["tokens"]) for batch in stream]


def mean_loss(model: Any, batches: list[mx.array]) -> float:
    """Nats per token of rows `[B, T + 1]`."""
    loss = 0.0
    for rows in batches:
        logs = log_softmax(model(rows[:, :-1]).astype(mx.float32))
        loss -= mx.take_along_axis(logs, rows[:, 1:, None], axis=-1).sum().item()
    return loss / sum(len(rows) * (rows.shape[1] - 1) for rows in batches)


def after_steps(model: Any, rows: mx.array, packing: CachePacking | None) -> tuple[mx.array, float]:
    """Log-probabilities `[B, T, V]` of rows that are read through a decode state, and its size in
    KiB per token."""
    state = model.init_state(len(rows), rows.shape[1])
    state["blocks"] = packed_caches(model, state["blocks"], packing)
    logits, state = model.step(rows[:, :-1], state)
    found = log_softmax(logits.astype(mx.float32))
    mx.eval(found)
    return found, state_bytes(state) / rows.size / 2**10


def rows_of(options: argparse.Namespace) -> tuple[Sample, Any]:
    """The text that methods read and are measured on, and the model of the run."""
    with origin_of(options.run) as origin:
        model = origin.model()
        text = sample_text(options.calibrate, origin.recipe, origin.tokenizer, model.vocab_size)
        return text, model


def write_peer(options: argparse.Namespace) -> None:
    """Write the run for mlx-lm, and the rows of text that are read and measured here."""
    options.peer.mkdir()
    export_run(options.run, "mlx-lm", options.peer / "model", dtype="float32")
    text, _ = rows_of(options)
    for name, rows in (("calibration", text.calibration), ("held_out", text.held_out)):
        np.save(options.peer / f"{name}.npy", np.concatenate([np.array(each) for each in rows]))


def megabytes(checkpoint: Path) -> float:
    """Size of the weights of a checkpoint on disk."""
    return sum(file.stat().st_size for file in checkpoint.glob("model*.safetensors")) / MIB


def measured_bits(checkpoint: Path) -> float:
    """Bits of a packed weight on average, scales included."""
    model: Any = load(checkpoint)[0]
    return bits_per_weight(model, {path: how for path, _, how in packed_layers(model)})


def quiet(*words: Any) -> None:
    """Print nothing."""


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("run")
    parser.add_argument("--bits", type=numbers(int), default=[8, 6, 4, 3, 2])
    parser.add_argument("--sparsities", type=numbers(float), default=[0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--methods", type=numbers(str), default=list(METHODS))
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--calibrate")
    parser.add_argument("--dtype", default="float16", help="of the scales of quantized weights")
    parser.add_argument("--kl", action="store_true", help="KL from the source, not perplexity")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--others", type=numbers(str), default=[])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--busy", action="store_true", help="measure processor time, not seconds")
    return parser.parse_args()


def numbers(kind: type) -> Callable[[str], list[Any]]:
    """A reader of values between commas."""
    return lambda text: [kind(part) for part in text.split(",")]


TABLES = {"quantize": quantized, "prune": pruned, "cache": cached, "smaller": smaller}
"""The tables by name."""

if __name__ == "__main__":
    main()
