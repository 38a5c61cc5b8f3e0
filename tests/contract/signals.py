"""Rows of the slot `signal`, and the completions that they read."""

from typing import Any

import numpy as np

from mlx_transformers.rl.scoring import Scored

from .suite import Row

_rng = np.random.default_rng(5)
SHAPE = (4, 6)


def _drawn() -> np.ndarray:
    return _rng.standard_normal(SHAPE).astype(np.float32)


SCORED = Scored(
    tokens=_rng.integers(0, 13, (4, 7)).astype(np.int32),
    counted=np.float32((np.arange(6) >= 2) & (np.arange(6) < np.array([[6], [4], [5], [3]]))),
    logps=_drawn(),
    sampler_logps=_drawn(),
    entropy=_drawn(),
    rewards=np.array([0.5, 2.0, -1.0, 0.25], np.float32),
    ended=np.array([True, True, False, True]),
    group=2,
    kl_weight=0.3,
    kl=_drawn(),
    reference_logps=_drawn(),
    values=_drawn(),
)
"""Two completions of each of two prompts."""

ROWS = [
    Row("signal", kind, {"kind": kind})
    for kind in ("gae", "group", "leave_one_out", "returns", "pairs", "best", "completions")
]

CHANGES: dict[str, dict[str, Any]] = {
    "gae": {"gamma": 0.9, "lam": 0.5, "whiten": False, "whiten_rewards": True},
    "group": {"scale": "none"},
    "leave_one_out": {"whiten": True},
    "returns": {"gamma": 0.9, "baseline": "none", "whiten": True},
    "pairs": {},
    "best": {"keep": 2, "least": 1.0},
    "completions": {},
}
