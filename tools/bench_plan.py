"""The plan's peak against the measured one, over recipes and settings that pull it apart.

    python tools/bench_plan.py [--only WORDS ...]

Each setting is a model of 5 to 25 million parameters (a few smaller ones where half precision or a
long row would take minutes on a CPU). It is planned, then trained for a few steps of random tokens
by the trainer's own step, one step ahead of the device as its loop is, in a process of its own.
Measured is MLX's peak counter from the second step on. No correction from earlier runs is applied.
"""

import argparse
import json
import statistics
import subprocess
import sys

import mlx_transformers  # noqa: F401  before mlx: the BLAS and kernels that training has

STEPS = 4
VOCAB = 4096
SIZE = "model.dim=256 model.n_layers=6 model.block.mixer.n_heads=8"
DEEP = "model.dim=320 model.n_layers=12 model.block.mixer.n_heads=10"
LLAMA = f"llama_tiny {SIZE} model.block.ffn.hidden_dim=704"
MIXTRAL = f"mixtral_tiny {SIZE} model.block.mixer.n_kv_heads=4"
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
    "lion": f"{LLAMA} optim={{kind='lion',learning_rate=0.001}}",
    "one short row": f"{LLAMA} train.batch_size=1 train.seq_len=64",
    "softcap, qk norm": f"{LLAMA} model.block.mixer.softcap=30.0 "
    "model.block.mixer.qk_norm={kind='rms_norm'}",
    "sandwich": f"{LLAMA} model.block.placement=sandwich",
    "bfloat16, 1M": "llama_tiny train.dtype=bfloat16",
    "bfloat16, experts, 3M": "mixtral_tiny train.dtype=bfloat16 train.batch_size=4",
}


def main() -> None:
    args = parse()
    if args.setting:
        print(json.dumps(measure(args.setting)))
        return
    errors = {}
    print(f"{'setting':28} {'params':>7} {'plan':>9} {'measured':>9} {'error':>7}  peak at")
    for name, words in SETTINGS.items():
        if args.only and not any(word in name for word in args.only):
            continue
        command = [sys.executable, __file__, "--setting", words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        errors[name] = error = row["plan_mib"] / row["measured_mib"] - 1
        print(
            f"{name:28} {row['parameters'] / 1e6:6.1f}M {row['plan_mib']:5.0f} MiB "
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
    """Which settings, or the one that this process measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="words of settings' names")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(setting: str) -> dict[str, object]:
    """Plan a setting, then train it for a few steps."""
    import mlx.core as mx
    import numpy as np

    from mlx_transformers.assemble import draft_model, load_recipe
    from mlx_transformers.layers.counts import count
    from mlx_transformers.memory.account import account
    from mlx_transformers.planning import job
    from mlx_transformers.trainer.step import Step

    name, *words = setting.split()
    vocab = next((int(word.split("=")[1]) for word in words if word.startswith("vocab=")), VOCAB)
    sets = [word.replace("every=", "every ") for word in words if not word.startswith("vocab=")]
    recipe = load_recipe(name, [*sets, f"model.vocab_size={vocab}"])
    plan = account(job(recipe, draft_model(recipe)))
    config = recipe.train
    mx.random.seed(0)
    model = draft_model(recipe)
    step = Step(model, recipe.objective.build(), recipe.optim.build(model, config.steps), config)
    draw = np.random.default_rng(0)
    shape = (config.accumulate, config.batch_size, config.seq_len + 1)
    previous = None
    for index in range(STEPS):
        if index == 1:
            mx.eval(previous, step.state)
            mx.reset_peak_memory()
        batches = [{"tokens": mx.array(rows)} for rows in draw.integers(0, vocab, shape, np.int32)]
        metrics = step(batches, index)
        mx.async_eval(metrics, step.state)
        if previous is not None:
            mx.eval(previous)
        previous = metrics
    mx.eval(previous, step.state)
    return {
        "parameters": count(model).total,
        "plan_mib": plan.peak / 2**20,
        "measured_mib": mx.get_peak_memory() / 2**20,
        "phase": plan.phase,
    }


if __name__ == "__main__":
    main()
