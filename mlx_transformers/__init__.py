"""Train transformers with MLX: `from mlx_transformers import load_recipe, build, train`.

Models are composed of kinds, each under its class's name: `mlx_transformers.Attention(n_heads=4)`.
"""

from importlib import import_module
from typing import Any

from .core import backend

__version__ = "0.1.0"

_FACE = {
    "load_recipe": "assembly.recipe",
    "Recipe": "assembly.recipe",
    "Data": "data.config",
    "Train": "trainer.config",
    "Eval": "trainer.config",
    "Checkpoints": "trainer.config",
    "Block": "layers.block",
    "Context": "core.context",
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
    """Import a name of the face, or the class of a kind from the registry, at its first use."""
    if name in _FACE:
        return getattr(import_module(f".{_FACE[name]}", __name__), name)
    # Only a class's name can be a kind's: others need not import every kind.
    found = None
    if name[:1].isupper():
        found = getattr(import_module(".assembly.registry", __name__), name, None)
    if not hasattr(found, "model_fields"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
