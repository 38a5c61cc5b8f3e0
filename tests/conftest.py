"""For every test: the package first, so that MLX gets its fast BLAS and kernels."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Chips with matrix units multiply float32 in fewer bits by default, and tolerances are float32's.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import checked_shapes

import mlx_transformers  # noqa: F401

checked_shapes.install()

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def load_tool() -> Callable[[str], Any]:
    """Import a script of tools/ as a module, by the name of its file."""

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
