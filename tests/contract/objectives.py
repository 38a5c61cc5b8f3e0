"""Rows of the slot `objective`."""

import numpy as np

from .suite import DIM, VOCAB, Change, Row

CLM = {"kind": "clm"}

SEQ2SEQ = {"kind": "seq2seq"}

_rng = np.random.default_rng(3)


def _drawn(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Tokens by a seed of their own, so that a new row leaves those of others as they are."""
    return np.random.default_rng(seed).integers(0, VOCAB, shape).astype(np.int32)


def _tokens(columns: int) -> np.ndarray:
    return _rng.integers(0, VOCAB, (3, columns)).astype(np.int32)


LENGTHS = np.array([7, 4, 5])
VALID = np.arange(7) < LENGTHS[:, None]
HIDDEN = np.array([[0, 1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], np.float32)
"""The last row hides nothing: it fills up a batch."""
COUNTS = np.array([1, 1, 0], np.float32)
MASKED = {"tokens": _tokens(7), "targets": _tokens(7), "weights": HIDDEN, "valid": VALID}
TYPES = np.tile(np.arange(7) > 2, (3, 1)).astype(np.int32)
TYPED = {"tokens": _tokens(7), "types": TYPES, "valid": VALID}

BATCHES: dict[str, dict[str, np.ndarray]] = {
    "seq2seq": {
        "source": _tokens(7),
        "source_valid": VALID,
        "tokens": _tokens(6),
        "weights": np.float32(np.arange(5) < LENGTHS[:, None] - 2),
    },
    "transcribe": {
        "frames": np.random.default_rng(4).standard_normal((3, 5, 6)).astype(np.float32),
        "tokens": MASKED["tokens"][:, :6],
        "weights": np.float32(np.arange(5) < LENGTHS[:, None] - 2),
    },
    "mlm": MASKED,
    "sentence_order": MASKED | {"types": TYPES, "label": np.array([1, 0, 1])},
    "rtd": MASKED,
    "classify": TYPED | {"label": np.array([2, 0, 1]), "weights": COUNTS},
    "classify_pictures": {
        "pixels": _tokens(7),
        "label": np.array([2, 0, 1]),
        "weights": COUNTS,
    },
    "mae": {"pixels": MASKED["tokens"][:, :6], "weights": COUNTS},
    "tag": MASKED | {"targets": _rng.integers(0, 3, (3, 7))},
    "answer": TYPED | {"answer": np.array([[1, 3], [0, 0], [2, 2]]), "weights": COUNTS},
    "clip": {
        "pixels": TYPED["tokens"][:, :5],
        "tokens": MASKED["tokens"],
        "valid": VALID,
        "weights": COUNTS,
    },
    "mixed_modal": {
        "pixels": _drawn(9, (3, 5)),
        "tokens": MASKED["tokens"] % (VOCAB - 2),
        "places": np.array([[0, 0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 0, 0, 0], [0] * 7]),
        "weights": np.float32(np.arange(6) < LENGTHS[:, None] - 1),
    },
    "vqvae": {"pixels": _drawn(10, (3, 5)), "weights": COUNTS},
    "distogram": {
        "tokens": MASKED["tokens"][:, :6],
        "letters": MASKED["tokens"][:, 1:7],
        "masked": np.float32([[1, 0, 1, 0, 0, 1], [0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 0]]),
        "valid": np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 6], bool),
        "pairs": np.tile([2, 0, 0, 2], (3, 1)),
        "pair_weights": np.tile([0.0, 1.0, 1.0, 0.0], (3, 1)).astype(np.float32),
        "weights": COUNTS,
    },
    "negative_sampling": {
        "tokens": _drawn(6, (3, 4, 2)),
        "valid": np.tile([[1, 1], [1, 0], [0, 1], [1, 1]], (3, 1, 1)).astype(bool),
        "targets": _drawn(8, (3, 4)),
        "negatives": _drawn(7, (3, 4, 5)),
        "weights": np.float32(np.arange(4) < np.array([[4], [2], [0]])),
    },
    "contrastive": {
        "a": _tokens(7),
        "a_valid": VALID,
        "b": _tokens(7),
        "b_valid": VALID,
        "weights": COUNTS,
    },
}
"""A batch for each kind that reads more than running text."""
NEEDED = {"mixed_modal": {"pictures": "vqvae"}}
"""Keys without a default of these kinds."""
PREFIX = {
    "tokens": _tokens(10),
    "prefix": np.array([3, 1, 8]),
    "weights": np.float32(np.arange(1, 10) >= np.array([[3], [1], [8]])),
}

PAIRS = {
    "chosen": _tokens(9),
    "rejected": _tokens(9),
    "chosen_counted": np.float32(np.arange(8) >= np.array([[2], [5], [3]])),
    "rejected_counted": np.float32(np.arange(8) >= np.array([[2], [5], [3]])),
    "margin": np.array([0.5, 0.0, 0.0], np.float32),
    "weights": COUNTS,
}
"""Prompts with two completions each, for the objectives on preferences."""

VECTORS = {
    "vectors": np.random.default_rng(4).standard_normal((3, 7, DIM)).astype(np.float32),
    "values": np.random.default_rng(5).standard_normal((3, 7)).astype(np.float32),
    "counted": HIDDEN,
    "weights": COUNTS,
}
"""Vectors in the place of embeddings, and numbers to predict."""

UNPAIRED = {
    "tokens": PAIRS["chosen"],
    "counted": PAIRS["chosen_counted"],
    # tokens of which the estimate of the KL is not clipped to 0
    "mismatched": (PAIRS["chosen"] + 1) % 13,
    "mismatched_counted": PAIRS["rejected_counted"],
    "label": np.array([1, 0, 1], np.int32),
    "weights": COUNTS,
}
"""Prompts with one completion each."""

_counted = np.float32(np.arange(8) >= np.array([[2], [5], [3]]))
POLICY = {
    "tokens": PAIRS["chosen"],
    "counted": _counted,
    "old_logps": -_rng.random((3, 8)).astype(np.float32) * 9 * _counted,
    "reference_logps": -_rng.random((3, 8)).astype(np.float32) * 5 * _counted,
    "advantages": np.float32(np.where(np.arange(8) % 2, -0.5, 1.5) * [[1], [-1], [1]]) * _counted,
    "returns": _rng.standard_normal((3, 8)).astype(np.float32),
    "old_values": _rng.standard_normal((3, 8)).astype(np.float32),
    "reward": np.array([1.0, 0.0, 2.0], np.float32),
    "row_tokens": np.full(3, 4.7, np.float32),
    "weights": COUNTS,
}
"""Completions with advantages."""

DISTILL = {"kind": "distill", "teacher": "large"}

PARTS = {
    "multi_token": {"ahead": {"kind": "mtp", "n": 2}},
    "early_exit": {"n_layers": 4},
    "regression": {"pool": {"kind": "scalar"}},
    "reward": {"pool": {"kind": "scalar"}},
    "ppo": {"pool": {"kind": "scalar"}},
}
"""What a decoder needs for an objective, beside the parts of LLaMA."""

LISTED = ("seq2seq", "contrastive", "mixed_modal")

ROWS = [
    Row("objective", "plain", CLM),
    Row("objective", "label smoothing", CLM | {"label_smoothing": 0.2}),
    Row("objective", "z loss", CLM | {"z_loss": 0.05}),
    Row("objective", "chunk", CLM | {"chunk": 4}),
    Row("objective", "several tokens", {"kind": "multi_token"}),
    Row("objective", "every layer", {"kind": "early_exit"}),
    Row("objective", "classes of pictures", {"kind": "classify_pictures"}),
    Row("objective", "seq2seq", SEQ2SEQ),
    Row("objective", "prefix", {"kind": "prefix_lm"}),
    Row("objective", "distill", DISTILL),
    Row("objective", "distill by jsd", DISTILL | {"divergence": "jsd"}),
    Row("objective", "dpo", {"kind": "dpo", "reference": "before"}),
    Row("objective", "kto", {"kind": "kto", "reference": "before"}),
    Row("objective", "reward", {"kind": "reward"}),
    Row("objective", "regression", {"kind": "regression"}),
    Row("objective", "ppo", {"kind": "ppo"}),
    Row("objective", "grpo", {"kind": "grpo", "beta": 0.1}),
    Row("objective", "grpo as cispo", {"kind": "grpo", "loss": "cispo"}),
    Row("objective", "grpo as sapo", {"kind": "grpo", "loss": "sapo"}),
    Row("objective", "rloo", {"kind": "rloo"}),
    Row("objective", "reinforce", {"kind": "reinforce"}),
    Row("objective", "orpo", {"kind": "orpo"}),
    Row("objective", "simpo", {"kind": "orpo", "loss": "simpo"}),
    Row("objective", "contrastive", {"kind": "contrastive", "temperature": 5.0}),
    Row("objective", "text and pictures", {"kind": "mixed_modal", **NEEDED["mixed_modal"]}),
    *(Row("objective", kind, {"kind": kind}) for kind in BATCHES if kind not in LISTED),
    Row("objective", "all at once", CLM | {"label_smoothing": 0.1, "z_loss": 0.1, "chunk": 7}),
]

CHANGES = {
    "ppo": {
        "clip": 0.01,
        "value_clip": 0.01,
        "value_weight": 0.5,
        "temperature": 0.5,
        "chunk": Change(4, result=False),
    },
    "grpo": {
        "loss": "dapo",
        "clip_low": 0.9,
        "clip_high": 9.0,
        "delta": 1.5,
        "tau_positive": Change(5.0, row="grpo as sapo"),
        "tau_negative": Change(5.0, row="grpo as sapo"),
        "beta": 0.5,
        "kl": "k2",
        "temperature": 0.5,
        "chunk": Change(4, result=False),
    },
    "rloo": {"clip": 0.9, "temperature": 0.5, "chunk": Change(4, result=False)},
    "reinforce": {
        "average": "sequence",
        "temperature": 0.5,
        "chunk": Change(4, result=False),
    },
    "kto": {
        "reference": "another",
        "loss": "apo_zero",
        "beta": 0.3,
        "desirable": 2.0,
        "undesirable": 2.0,
        "chunk": Change(4, result=False),
    },
    "reward": {"centering": 0.5},
    "dpo": {
        "reference": "another",
        "loss": "ipo",
        "beta": 0.3,
        "length_normalised": True,
        "label_smoothing": 0.2,
        "sft": 0.5,
        "divergence": "js_divergence",
        "chunk": Change(4, result=False),
    },
    "orpo": {
        "loss": "cpo",
        "beta": 0.3,
        "gamma": Change(1.0, row="simpo"),
        "label_smoothing": Change(0.2, row="simpo"),
        "nll": 0.5,
        "chunk": Change(4, result=False),
    },
    "seq2seq": {"label_smoothing": 0.3, "z_loss": 0.1, "chunk": Change(4, result=False)},
    "transcribe": {"label_smoothing": 0.3, "z_loss": 0.1, "chunk": Change(4, result=False)},
    # a curriculum changes training alone
    "early_exit": {
        "scale": 0.2,
        "curriculum": Change("gradual", result=False),
        "every": Change(3, result=False),
        "chunk": Change(4, result=False),
    },
    "prefix_lm": {"chunk": Change(4, result=False)},
    "mlm": {"z_loss": 0.1, "chunk": Change(4, result=False)},
    "sentence_order": {"order_weight": 0.5, "chunk": Change(4, result=False)},
    "rtd": {"discriminator_weight": 20.0, "chunk": Change(4, result=False)},
    "distill": {
        "teacher": "larger",
        "temperature": 1.0,
        "hard": 0.5,
        "soft": 0.5,
        "cosine": 1.0,
        "layers": 1.0,
        "attention": 1.0,
        "embeddings": 1.0,
        "relations": {"heads": 2},
        "divergence": "reverse_kl",
        "beta": Change(0.2, row="distill by jsd"),
        "chunk": Change(4, result=False),
    },
    "distogram": {"masked_weight": 2.0},
    "negative_sampling": {},
    "vqvae": {"commitment": 1.0},
    "classify": {"label_smoothing": 0.3},
    "classify_pictures": {"label_smoothing": 0.3},
    "mae": {},
    "regression": {},
    "tag": {},
    "answer": {},
    "contrastive": {"temperature": 0.5, "symmetric": True},
    "clip": {"loss": "sigmoid"},
    "mixed_modal": {
        "pictures": "other",
        "label_smoothing": 0.3,
        "z_loss": 0.1,
        "accuracy": True,
        "chunk": Change(4, result=False),
    },
    "multi_token": {
        "weight": 0.1,
        "label_smoothing": 0.3,
        "z_loss": 0.1,
        "accuracy": True,
        "chunk": Change(4, result=False),
    },
    "clm": {
        "label_smoothing": 0.3,
        "z_loss": 0.1,
        "accuracy": True,
        "chunk": Change(4, result=False),
    },
}
