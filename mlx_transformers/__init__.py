"""Train transformers with MLX: `from mlx_transformers import load_recipe, build, train`."""

from importlib import import_module
from typing import Any

from .core import backend

__version__ = "0.1.0"

_FACE = {
    "load_recipe": "assembly.recipe",
    "build": "assembly.build",
    "train": "verbs.train",
    "finetune": "verbs.finetune",
    "load": "assembly.saved",
    "generate": "decode.generate",
    "look": "inside.look",
}
"""Module of each name of the Python face, which is imported at its first use."""

__all__ = ["__version__", *_FACE]

backend.prepare_with_mlx()


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_FACE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
