"""The plan's peak against the measured one, over recipes and settings that pull it apart.

    python tools/bench_plan.py [--only WORDS ...]

Each setting is a model of 1 to 16 million parameters. It is planned, then trained for a few steps
of random characters by the trainer's own step, one step ahead of the device as its loop is, in a
process of its own; batches are made as for a run. Measured is MLX's peak counter from the second
step on. No correction from earlier runs is applied. The constants of the plan were fitted to the
first table; the second has settings that they were not fitted to.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import mlx_transformers  # noqa: F401  before mlx: the BLAS and kernels that training has

STEPS = 4
VOCAB = 4096
FIRST = 0x4E00
"""The first of the characters that stand for words."""
RECORDS, RECORD = 200, 2000
"""Texts, and characters of each: more than a row has."""
SIZE = "model.dim=256 model.n_layers=6 model.block.mixer.n_heads=8"
DEEP = "model.dim=320 model.n_layers=12 model.block.mixer.n_heads=10"
LLAMA = f"llama_tiny {SIZE} model.block.ffn.hidden_dim=704"
MIXTRAL = f"mixtral_tiny {SIZE} model.block.mixer.n_kv_heads=4"
ENCODER = f"{SIZE} model.block.ffn.hidden_dim=1024"
PAIR = " ".join(
    f"model.{part}.n_layers=6 model.{part}.dim={dim}"
    for part, dim in (("generator", 64), ("discriminator", 128))
)
BOTH = "model.dim=256 " + " ".join(
    f"model.{part}.n_layers=3 model.{part}.block.ffn.hidden_dim=1024"
    for part in ("encoder", "decoder")
)
T5 = "model.dim=256 model.encoder.n_layers=3 model.decoder.n_layers=3"
LONG = "model.max_seq_len=1024 train.seq_len=1024 train.batch_size=2"

SETTINGS = {
    "dense, post-norm, dropout": f"base_tiny {SIZE} model.block.ffn.hidden_dim=1024",
    "dense, gelu": f"gpt2_tiny {SIZE} model.block.ffn.hidden_dim=1024",
    "dense, llama": LLAMA,
    "grouped queries": f"{LLAMA} model.block.mixer.n_kv_heads=2",
    "half the rows": f"{LLAMA} train.batch_size=4",
    "twice the rows": f"{LLAMA} train.batch_size=16",
    "12 layers, 320 wide": f"llama_tiny {DEEP} model.block.ffn.hidden_dim=856",
    "12 layers, 320 wide, gpt2": f"gpt2_tiny {DEEP} model.block.ffn.hidden_dim=1280",
    "rows of 1024": f"{LLAMA} {LONG}",
    "rows of 1024, window 128": f"{LLAMA} {LONG} model.block.mixer.window=128",
    "rows of 128, window 32": f"{LLAMA} model.block.mixer.window=32 train.seq_len=128",
    "experts": f"{MIXTRAL} model.block.ffn.expert.hidden_dim=352",
    "experts, recomputed": f"{MIXTRAL} model.block.ffn.expert.hidden_dim=352 train.recompute=all",
    "recompute all": f"{LLAMA} train.recompute=all",
    "recompute all, 12 layers": f"llama_tiny {DEEP} model.block.ffn.hidden_dim=856 "
    "train.recompute=all",
    "recompute half": f"{LLAMA} train.recompute=[0,2,4]",
    "recompute every 2": f"{LLAMA} train.recompute='every=2'",
    "recompute every 3, 12 layers": f"llama_tiny {DEEP} model.block.ffn.hidden_dim=856 "
    "train.recompute='every=3'",
    "chunk 64": f"{LLAMA} objective.chunk=64",
    "chunk 2048": f"{LLAMA} objective.chunk=2048",
    "vocabulary 16384": f"{LLAMA} vocab=16384",
    "vocabulary 256": f"{LLAMA} vocab=256",
    "accumulate 4": f"{LLAMA} train.batch_size=2 train.accumulate=4",
    "average of weights": f"{LLAMA} train.ema=0.99",
    "moments in bfloat16": f"{LLAMA} optim.state=bfloat16",
    "moments in 8 bits": f"{LLAMA} optim.state=int8",
    "state in a file": f"{LLAMA} train.offload_optimizer=true",
    "state in a file, one short row": f"{LLAMA} train.offload_optimizer=true train.batch_size=1 "
    "train.seq_len=64",
    "state in a file, accumulate 4": f"{LLAMA} train.offload_optimizer=true train.batch_size=2 "
    "train.accumulate=4",
    "state in a file, adafactor": f"llama_tiny {DEEP} model.block.ffn.hidden_dim=856 "
    "train.offload_optimizer=true train.batch_size=1 train.seq_len=64 optim={kind='adafactor'}",
    "lion": f"{LLAMA} optim={{kind='lion',learning_rate=0.001}}",
    "one short row": f"{LLAMA} train.batch_size=1 train.seq_len=64",
    "softcap, qk norm": f"{LLAMA} model.block.mixer.softcap=30.0 "
    "model.block.mixer.qk_norm={kind='rms_norm'}",
    "sandwich": f"{LLAMA} model.block.placement=sandwich",
    "bfloat16, 1M": "llama_tiny train.dtype=bfloat16",
    "bfloat16, experts, 3M": "mixtral_tiny train.dtype=bfloat16 train.batch_size=4",
    "encoder, masked words": f"encoders/roberta_tiny {ENCODER}",
    "encoder, pairs of sentences": f"encoders/bert_tiny {ENCODER}",
    "encoder, recomputed": f"encoders/roberta_tiny {ENCODER} train.recompute=all",
    "encoder, disentangled": f"encoders/deberta_tiny {ENCODER}",
    "encoder, windows, glu": f"encoders/modernbert_tiny {SIZE} model.block.ffn.hidden_dim=704",
    "encoder, layers shared": f"encoders/albert_tiny {ENCODER}",
    "encoder, classes": f"encoders/bert_sentiment_tiny {ENCODER}",
    "generator, discriminator": f"encoders/electra_tiny {PAIR}",
    "encoder-decoder, 2017": f"encoder_decoder/transformer_2017_tiny {BOTH}",
    "encoder-decoder, spans": f"encoder_decoder/t5_tiny {BOTH}",
    "encoder-decoder, noise": f"encoder_decoder/bart_tiny {BOTH}",
    "encoder-decoder, recomputed": f"encoder_decoder/transformer_2017_tiny {BOTH} "
    "train.recompute=all",
    "recurrent, lstm": "recurrent/lstm_lm_tiny",
    "recurrent, wider": "recurrent/lstm_lm_tiny model.dim=512 model.stack.hidden_dim=512",
    "recurrent, gru": "recurrent/gru_lm_tiny",
    "recurrent, read on": "recurrent/awd_lstm_tiny",
    "recurrent, convolutions": "recurrent/wavenet_tiny",
    "recurrent seq2seq": "seq2seq/seq2seq_tiny",
    "recurrent seq2seq, additive": "seq2seq/bahdanau_tiny",
    "recurrent seq2seq, general": "seq2seq/luong_tiny",
    "state space, mamba": "state_space/mamba_tiny vocab=256",
    "state space, mamba, 32 states": "state_space/mamba_tiny model.block.mixer.state_dim=32 "
    "vocab=256 train.batch_size=4",
    "word vectors, skip-gram": "embeddings/word2vec_tiny data.batch.subsample=1.0",
}


HELD_OUT = {
    "softcaps, two norms": f"decoders/gemma2_tiny {SIZE}",
    "mixer beside ffn": f"decoders/gptj_tiny {SIZE} model.block.ffn.hidden_dim=1024",
    "8 layers, 192 wide, rows of 512": "llama_tiny model.dim=192 model.n_layers=8 "
    "model.block.mixer.n_heads=6 model.block.ffn.hidden_dim=512 model.max_seq_len=512 "
    "train.seq_len=512 train.batch_size=4",
    "encoder, 12 layers": f"encoders/roberta_tiny {DEEP} model.block.ffn.hidden_dim=1280",
    "encoder, half of them hidden": f"encoders/roberta_tiny {ENCODER} data.batch.masking.share=0.5",
    "encoder-decoder, glu, spans": f"encoder_decoder/t5_v11_tiny {T5}",
    "distances in the scores": f"positions/alibi_tiny {SIZE}",
    "experts, half the rows": f"{MIXTRAL} model.block.ffn.expert.hidden_dim=352 train.batch_size=4",
    "recurrent, simple, wider": "recurrent/rnn_lm_tiny model.stack.hidden_dim=1024",
    "recurrent seq2seq, near": "seq2seq/luong_local_tiny",
    "sound, one layer": "speech/whisper_tiny vocab=64 train.batch_size=48 model.encoder.n_layers=1 "
    "model.decoder.n_layers=1",
    "sound, two layers": "speech/whisper_tiny vocab=64",
}
"""Models that the constants of the plan were not fitted to."""


def main() -> None:
    args = parse()
    if args.setting:
        print(json.dumps(measure(args.setting)))
        return
    for title, settings in (("fitted", SETTINGS), ("not fitted", HELD_OUT)):
        chosen = {
            name: words
            for name, words in settings.items()
            if not args.only or any(word in name for word in args.only)
        }
        if chosen:
            compare(title, chosen)


def compare(title: str, settings: dict[str, str]) -> None:
    """Measure settings one after the other, and print a table of them."""
    errors = {}
    print(f"{title:32} {'params':>7} {'plan':>9} {'measured':>9} {'error':>7}  peak at")
    for name, words in settings.items():
        command = [sys.executable, __file__, "--setting", words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        errors[name] = error = row["plan_mib"] / row["measured_mib"] - 1
        print(
            f"{name:32} {row['parameters'] / 1e6:6.1f}M {row['plan_mib']:5.0f} MiB "
            f"{row['measured_mib']:5.0f} MiB {error:+7.1%}  {row['phase']}",
            flush=True,
        )
    sizes = {name: abs(error) for name, error in errors.items()}
    worst = max(sizes, key=lambda name: sizes[name])
    print(
        f"{len(sizes)} settings: median error {statistics.median(sizes.values()):.1%}, "
        f"worst {sizes[worst]:.1%} ({worst})"
    )


def parse() -> argparse.Namespace:
    """Parse the settings, or the one that this process measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="words of settings' names")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(setting: str) -> dict[str, object]:
    """Plan a setting, then train it for a few steps."""
    import mlx.core as mx

    from mlx_transformers.assembly.build import build
    from mlx_transformers.assembly.job import job
    from mlx_transformers.assembly.recipe import load_recipe
    from mlx_transformers.data.kinds import BatchSetting
    from mlx_transformers.data.prepare import prepare
    from mlx_transformers.data.stream import TrainStream
    from mlx_transformers.memory.account import account
    from mlx_transformers.trainer.loop import arrays

    name, *words = setting.split()
    vocab = next((int(word.split("=")[1]) for word in words if word.startswith("vocab=")), VOCAB)
    sets = [word.replace("every=", "every ") for word in words if not word.startswith("vocab=")]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLXT_CACHE"] = folder
        data = [f"data.path={written(Path(folder), vocab)}", "data.tokenizer={kind='char'}"]
        recipe = load_recipe(name, [*data, *sets])
        built = build(recipe, prepare(recipe.data, progress=lambda *told: None))
        plan = account(job(built.recipe, built.model))
        config, step = built.recipe.train, built.step
        rows = BatchSetting(config.seq_len, batch_size=config.batch_size)
        feed = TrainStream(built.data, rows, kind=recipe.data.batch)
        step.parallel.check(step.loss, arrays(feed.batch(0)))
        previous = None
        with step.parallel.single_threaded():
            for index in range(STEPS):
                if index == 1:
                    mx.eval(previous, step.state)
                    mx.reset_peak_memory()
                first = index * config.accumulate
                batches = [arrays(feed.batch(first + i)) for i in range(config.accumulate)]
                metrics = step(batches, index)
                mx.async_eval(metrics, step.state)
                if previous is not None:
                    mx.eval(previous)
                previous = metrics
            mx.eval(previous, step.state)
    return {
        "parameters": built.counts.total,
        "plan_mib": plan.peak / 2**20,
        "measured_mib": mx.get_peak_memory() / 2**20,
        "phase": plan.phase,
    }


def written(folder: Path, vocab: int) -> Path:
    """Records of random characters, of which there are `vocab`, for any kind of batch."""
    draw, path = random.Random(0), folder / "records.jsonl"
    every = [chr(FIRST + i) for i in range(vocab)]
    texts = ["".join(every), *("".join(draw.choices(every, k=RECORD)) for _ in range(RECORDS))]
    sound = path.with_name("noise.wav")
    with wave.open(str(sound), "wb") as noise:
        noise.setparams((1, 2, 16000, 0, "NONE", ""))  # one channel of 16 bits
        noise.writeframes(draw.randbytes(4 * 16000 * 2))
    with path.open("w", encoding="utf-8") as file:
        for i, text in enumerate(texts):
            record = {"text": text, "source": text, "target": text, "label": "ab"[i % 2]}
            record["audio"] = sound.name
            file.write(json.dumps(record) + "\n")
    return path


if __name__ == "__main__":
    main()
