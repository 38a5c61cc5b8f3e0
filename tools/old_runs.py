"""Make runs that later code has to open: tests/old_runs.

    python tools/old_runs.py [NAME...]

Each is a few kilobytes, of another kind of file on disk. A run that is there already is never
made again: it is what older code wrote, and `tests/train/test_old_runs.py` opens it with today's.
A new kind of file is one line in RUNS. Beside the runs, expected.json holds what each gave when it
was made: its validation loss, a continuation, and the loss of one more step. `imported` is `half`,
exported for transformers and imported again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlx_transformers import generate, load, load_recipe, train  # before mlx: it chooses the BLAS

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
OLD = ROOT / "tests" / "old_runs"
EXPECTED = OLD / "expected.json"

STEPS = 3
TRAINED = (
    "data.tokenizer={kind='char'}",
    *(f"train.steps={STEPS}", "train.batch_size=2", "train.seq_len=16"),
    *("eval.every=2", "eval.batch_size=2", "eval.batches=2"),
    *("checkpoint.every=2", "checkpoint.keep=1", "log.every=1"),
)
PLAIN = ("data.path=text.txt",)
PAIRS = ("data.path=pairs.tsv", "data.valid_fraction=0.3")
LABELS = ("data.path=labels.tsv", "data.valid_fraction=0.3")
SMALL = ("model.dim=8", "model.n_layers=1")
FFN, HEADS = "model.block.ffn.hidden_dim", "model.block.mixer.n_heads"
DECODER = (*SMALL, f"{FFN}=12", f"{HEADS}=2", "model.block.mixer.n_kv_heads=1")
ENCODER = (*SMALL, f"{FFN}=12", f"{HEADS}=2")
SIDES = ("model.encoder", "model.decoder")
VERSIONS = ("python", "mlx", "mlxt", "device", "metal", "processes")
SAMPLED = ("log.sample_every=3", "log.sample_prompt='the '")
"""Settings of a run that samples text."""

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "average": (
        "mistral_tiny",
        (*PLAIN, *DECODER, "train.ema=0.9", "optim.state='bfloat16'", *SAMPLED),
    ),
    "experts": (
        "decoders/deepseek_mtp_tiny",
        (
            *(*PLAIN, "model.dim=8", "model.n_layers=2", f"{HEADS}=2", *SAMPLED),
            "model.pattern=['dense', 'sparse']",
            *("model.block.mixer.q_rank=6", "model.block.mixer.kv_rank=6"),
            *("model.block.mixer.nope_dim=4", "model.block.mixer.rope_dim=4"),
            *("model.block.mixer.value_dim=4", "model.block.ffn.n_experts=4"),
            *("model.block.ffn.expert.hidden_dim=4", "model.block.ffn.shared.hidden_dim=4"),
            *("model.blocks.dense.ffn.hidden_dim=8", "model.block.ffn.router.n_groups=2"),
            *("model.block.ffn.router.top_groups=1", "model.block.ffn.router.top_k=2"),
            "optim={kind='muon', learning_rate=0.02}",
        ),
    ),
    "bytes": (
        "gpt2_tiny",
        (
            *(*PLAIN, "model.dim=16", "model.n_layers=1", "model.max_seq_len=16", *SAMPLED),
            *(f"{FFN}=256", f"{HEADS}=2", "optim.state='int8'"),
        ),
    ),
    "half": (
        "llama_tiny",
        (*PLAIN, *SMALL, f"{FFN}=12", f"{HEADS}=2", "train.dtype='float16'", *SAMPLED),
    ),
    "carried": (
        "recurrent/lstm_lm_tiny",
        (*PLAIN, "model.dim=8", "model.stack.hidden_dim=8", *SAMPLED),
    ),
    "spans": (
        "encoder_decoder/t5_tiny",
        (
            *(*PLAIN, "model.dim=8"),
            *(f"{side}.{key}" for side in SIDES for key in ("n_layers=1", "position.n_heads=2")),
            *(f"{side}.block.mixer.n_heads=2" for side in SIDES),
            *(f"{side}.block.ffn.hidden_dim=12" for side in SIDES),
            "model.decoder.block.cross.n_heads=2",
        ),
    ),
    "aligned": ("seq2seq/bahdanau_tiny", (*PAIRS, "model.dim=8")),
    "labels": (
        "encoders/bert_sentiment_tiny",
        (*LABELS, *ENCODER, "model.max_seq_len=16", "model.pool.n_classes=3"),
    ),
    "pair": (
        "encoders/electra_tiny",
        (
            *PLAIN,
            *(f"model.{part}.n_layers=1" for part in ("generator", "discriminator")),
            *("model.generator.dim=4", "model.discriminator.dim=8"),
            *("model.generator.embed.width=8", "model.generator.head.width=8"),
            "model.generator.block.ffn.hidden_dim=8",
            "model.discriminator.block.ffn.hidden_dim=12",
            "model.discriminator.block.mixer.n_heads=2",
            *(f"model.{part}.max_seq_len=16" for part in ("generator", "discriminator")),
        ),
    ),
}
IMPORTED = "imported"
NAMES = [*RUNS, IMPORTED]
MLXT = [sys.executable, "-c", "from mlx_transformers.cli.main import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    wanted = parser.parse_args().names or NAMES
    OLD.mkdir(parents=True, exist_ok=True)
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for name in wanted:
        if (OLD / name).exists():
            print(f"{name}: older code wrote it, so it stays")
            continue
        expected[name] = make(name)
        EXPECTED.write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n")
        size = sum(file.stat().st_size for file in (OLD / name).rglob("*"))
        print(f"{name}: {size:,} bytes, {expected[name]}")


def make(name: str) -> dict[str, Any]:
    """Make the run in a folder of its own, keep it, and return what it gives."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            data(Path(folder))
            run = brought() if name == IMPORTED else trained(name)
            shutil.copytree(run, OLD / name, ignore=shutil.ignore_patterns(".lock"))
            forget_the_machine(OLD / name / "environment.json")
            return given(name)
        finally:
            os.chdir(here)


def trained(name: str) -> Path:
    """Train the run of this name."""
    recipe, sets = RUNS[name]
    loaded = load_recipe(RECIPES / f"{recipe}.toml", [*TRAINED, *sets])
    return train(loaded, name=name, say=_quiet).folder.path


def brought() -> Path:
    """Export a run for transformers and import it again."""
    shutil.copytree(OLD / "half", Path("runs", "half"))
    subprocess.run([*MLXT, "export", "half", "--to", "hf", "--out", "half"], check=True)
    subprocess.run([*MLXT, "import", "half", "--name", IMPORTED], check=True)
    return Path("runs", IMPORTED)


def forget_the_machine(path: Path) -> None:
    """Leave in an environment.json nothing but versions."""
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k in VERSIONS}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def given(name: str) -> dict[str, Any]:
    """Return what `runs/NAME` of the current folder gives; a trained run has one more step then."""
    run = Path("runs", name)
    found: dict[str, Any] = {}
    model, tokenizer = load(run)
    if name == IMPORTED or SAMPLED[0] in RUNS[name][1]:
        found["text"] = generate(model, tokenizer, "the ", max_tokens=8)
    if name == IMPORTED:
        return found
    found["val_loss"] = last(run, "val_loss")
    recipe = load_recipe(run / "recipe.toml", [f"train.steps={STEPS + 1}"])
    train(recipe, name=name, resume="auto", say=_quiet)
    return found | {key: last(run, key) for key in ("train_loss", "grad_norm")}


def data(folder: Path) -> None:
    """Write the texts that the runs are trained on."""
    words = ["the", "king", "of", "love", "and", "sorrow", "what", "light", "from", "yonder", "a"]
    lines = [[words[(i * i + 3 * i * j + 7 * j) % 11] for j in range(6)] for i in range(60)]
    (folder / "text.txt").write_text("\n".join(" ".join(line) for line in lines))
    pairs = [f"{line[0]} {line[1]}\t{line[1]} {line[0]}" for line in lines]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *dict.fromkeys(pairs)]) + "\n")
    labels = [f"{' '.join(line[:3])}\t{'abc'[len(line[0]) % 3]}" for line in lines]
    (folder / "labels.tsv").write_text("\n".join(["text\tlabel", *dict.fromkeys(labels)]) + "\n")


def last(run: Path, key: str) -> float:
    """Return the last number that the log of a run has under a key."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record][-1]


def _quiet(text: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    main()
