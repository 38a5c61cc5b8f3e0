"""Compilation, for the tests that are about it."""

import os
from collections.abc import Iterator

import mlx.core as mx
import pytest


@pytest.fixture
def compilation() -> Iterator[None]:
    """On for a test that asks for it, whatever the environment says of the others."""
    mx.enable_compile()
    yield
    if os.environ.get("MLX_DISABLE_COMPILE", "0") != "0":
        mx.disable_compile()
