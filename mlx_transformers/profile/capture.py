"""A GPU trace of one training step, for Xcode."""

import os
from pathlib import Path

import mlx.core as mx

from ..core.errors import RunError
from ..trainer.forward import Batch
from ..trainer.step import Step

SUFFIX = ".gputrace"
ALLOWED = "MTL_CAPTURE_ENABLED"
"""Environment variable that has to be 1 for Metal to allow a GPU capture."""


def check_capture(path: Path) -> None:
    """Check that a GPU trace can be recorded, before minutes of measuring.

    Raises:
        RunError: there is no Metal, capture isn't enabled, or `path` is unsuitable.
    """
    if not mx.metal.is_available():
        raise RunError(
            "--capture records the GPU with Metal, which this machine doesn't have. Use it on a "
            "Mac with Apple silicon, or leave it out."
        )
    if os.environ.get(ALLOWED) != "1":
        raise RunError(f"Metal records only with {ALLOWED}=1 in the environment: set it before.")
    if path.suffix != SUFFIX:
        raise RunError(f"--capture {path}: a GPU trace is named *{SUFFIX}. Call it so.")
    if path.exists():
        raise RunError(f"--capture {path} exists already. Choose another name, or remove it.")


def capture(step: Step, microbatches: list[Batch], path: Path) -> None:
    """Record one compiled step after a warm-up step.

    Raises:
        RunError: as `check_capture`.
    """
    check_capture(path)
    mx.eval(step(microbatches, 0), step.state)
    mx.metal.start_capture(str(path))
    try:
        mx.eval(step(microbatches, 0), step.state)
    finally:
        mx.metal.stop_capture()
