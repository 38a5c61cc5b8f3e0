"""What tests of memory need of the machine."""

import pytest

from mlx_transformers.trainer.traced import compiling


@pytest.fixture
def compiled() -> None:
    """Skips where `mx.compile` is off: the plan is of a compiled step."""
    if not compiling():
        pytest.skip("mx.compile is off")
