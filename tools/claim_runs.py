"""The runs that the claims of claims.py read: a recipe each, and the keys set in it."""

from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
MIXER = "model.block.mixer"
NO_POSITIONS = "model.position={kind='none'}"
MAMBA = (f"{MIXER}={{kind='mamba', state_dim=16}}", NO_POSITIONS)


def budget(steps: int, *more: str) -> tuple[str, ...]:
    """Settings of a run of so many steps, which is evaluated and saved at its end."""
    ends = ("eval.every", "checkpoint.every", "log.sample_every")
    return (f"train.steps={steps}", "eval.batches=20", *(f"{key}={steps}" for key in ends), *more)


def task(steps: int, length: int, *more: str, rows: int = 32) -> tuple[str, ...]:
    """Settings of a synthetic task of so many tokens."""
    sizes = (f"model.max_seq_len={length}", f"train.seq_len={length}", f"train.batch_size={rows}")
    return budget(steps, *sizes, *more)


def text(*more: str, hidden_dim: int = 172) -> tuple[str, ...]:
    """Settings of a model of Shakespeare of a quarter of a million weights."""
    sizes = ("model.dim=64", "model.max_seq_len=128", "train.seq_len=128")
    sizes += ("data.tokenizer.vocab_size=512", f"model.block.ffn.hidden_dim={hidden_dim}")
    return budget(200, *sizes, *more)


MQAR = task(1500, 24, "data.settings={n_pairs=4, length=24, vocab_size=32}")
COPYING = task(
    1000, 24, "data.settings={n_tokens=4, context=20, vocab_size=8}", "optim.learning_rate=4e-3"
)
INDUCTION = task(1000, 16, "data.settings={length=16, vocab_size=8}", "optim.learning_rate=4e-3")
INDUCTION_64 = task(
    300,
    64,
    "data.settings={length=64, vocab_size=8, n_examples=50000}",
    "optim.learning_rate=4e-3",
    "optim.schedule.warmup=30",
    "model.init={kind='fan_in'}",  # weights from N(0, 0.02²) stay at chance for these steps
)
LONG_INDUCTION = task(
    1000, 256, "data.settings={length=256, vocab_size=8, n_examples=50000}", rows=16
)
LONG_COPYING = task(
    1500,
    72,
    "data.settings={n_tokens=8, context=64, vocab_size=8, n_examples=50000}",
    "optim.learning_rate=4e-3",
    "optim.schedule.warmup=50",
    "model.init={kind='fan_in'}",
    'unset=["model.block.ffn"]',  # as in the paper's models, which are mixers alone
)
SIDE = 14
DIGITS = budget(400, f"data.settings={{side={SIDE}}}", f"train.seq_len={SIDE**2 + 2}")

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mqar attention": ("tasks/mqar_tiny", MQAR),
    "mqar linear attention": (
        "tasks/mqar_tiny",
        (*MQAR, f"{MIXER}={{kind='linear_attention', n_heads=2}}", NO_POSITIONS),
    ),
    "selective copy mamba": ("tasks/selective_copy_tiny", (*COPYING, *MAMBA)),
    "selective copy s4": (
        "tasks/selective_copy_tiny",
        (*COPYING, f"{MIXER}={{kind='s4', state_dim=64}}", NO_POSITIONS),
    ),
    "longer copy mamba": ("tasks/selective_copy_tiny", (*LONG_COPYING, *MAMBA)),
    "longer copy s4": (
        "tasks/selective_copy_tiny",
        (*LONG_COPYING, f"{MIXER}={{kind='s4', state_dim=64}}", NO_POSITIONS),
    ),
    "digits s4d": ("tasks/digits_s4d_tiny", DIGITS),
    "digits lstm": ("tasks/digits_lstm_tiny", DIGITS),
    "induction mamba": ("tasks/induction_tiny", (*INDUCTION, *MAMBA)),
    "induction mamba 64": ("tasks/induction_tiny", (*INDUCTION_64, *MAMBA)),
    "induction mamba long": ("tasks/induction_tiny", (*LONG_INDUCTION, *MAMBA)),
    "llama": ("llama_tiny", text()),
    "retnet": ("efficient/retnet_tiny", text(hidden_dim=86)),
    "gla": ("efficient/gla_tiny", text()),
    "half depth": (
        "depth/mixture_of_depths_tiny",
        text("model.blocks.routed.route.capacity=0.5"),
    ),
    "switch": (
        "experts/switch_tiny",
        text("model.blocks.sparse.ffn.expert.hidden_dim=172"),
    ),
    "universal": (
        "depth/universal_tiny",
        text(
            "model.depth.output=sum",
            "model.depth.steps=learned",  # sinusoids of size 1 drown embeddings of size 0.02
            "model.depth.halting_bias=-1",
        ),
    ),
}
"""The recipe of each run and the keys set in it."""
