"""Loads the model and tokenizer of a saved run."""

from pathlib import Path

import mlx.core as mx

from ..data.tokenizers.load import load_tokenizer
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.adapters.weights import restore_base
from ..models.model import Model
from ..runs.checkpoint import step_of
from ..runs.folder import find_checkpoint
from ..runs.frozen import read_base
from ..runs.restore import restore_model
from ..runs.weights import run_weights
from .model import build_model
from .recipe import load_recipe


def load(run: str | Path | None = None) -> tuple[Model, Tokenizer]:
    """Load the model and tokenizer of a run, from its best checkpoint or the one named.

    Args:
        run: a run's name or folder, a checkpoint's folder, or None for the newest run.

    Raises:
        RunError: there is no such run.
        CheckpointError: its checkpoint is damaged.
    """
    folder, checkpoint = find_checkpoint(run)
    recipe = load_recipe(folder.recipe).stage(step_of(checkpoint), saved=True)
    tokenizer = load_tokenizer(folder.tokenizer)
    model = build_model(recipe, tokenizer, reads_text=False)
    if recipe.adapt is not None:
        restore_base(model, read_base(checkpoint))
    restore_model(model, run_weights(checkpoint, recipe.averaged))
    mx.eval(model.parameters())
    return model, tokenizer
