"""The order of the training rows in a curriculum, by their text or by the loss of another run."""

import os
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.cache import cache_folder
from ..core.context import Context
from ..core.errors import RecipeError
from ..data.curriculum import Curriculum, difficulty
from ..data.data_key import hashed
from ..data.kinds import Rows
from ..runs.tensors import digest
from ..trainer.forward import Forward
from ..trainer.source import rows_in_order
from .build import Built, build_objective
from .recipe import Recipe
from .saved import load


def curriculum_order(built: Built, curriculum: Curriculum) -> np.ndarray:
    """Return the numbers of the training rows of one pass, easiest first: int64 [rows].

    Losses are computed once and kept in the cache folder, so that a resumed run has the same order.

    Raises:
        RecipeError: the reference was trained with another tokenizer.
    """
    recipe = built.recipe
    rows = rows_in_order(recipe.data, built.data, recipe.train)
    if curriculum.reference is None:
        hard = difficulty(curriculum.by, rows, built.data)
    else:
        hard = _losses(built, curriculum.reference, rows)
    return np.argsort(hard, kind="stable")


def curriculum_fingerprint(recipe: Recipe) -> dict[str, str]:
    """Return the fingerprint of the run whose loss orders the rows; empty if there is none.

    A checkpoint keeps it, so that a resume finds out if another order would follow.
    """
    if recipe.curriculum is None or recipe.curriculum.reference is None:
        return {}
    model, _ = load(recipe.curriculum.reference)
    return {"curriculum": digest(model.parameters())}


def _losses(built: Built, reference: str, rows: Rows) -> np.ndarray:
    model, tokenizer = load(reference)
    if tokenizer.fingerprint() != built.tokenizer.fingerprint():
        raise RecipeError(
            f"curriculum.reference = '{reference}' was trained with another tokenizer, so its loss "
            "on these tokens means nothing: give both the same data.tokenizer."
        )
    recipe = built.recipe
    batch, length = recipe.data.batch.model_dump(), recipe.train.seq_len
    settings = [
        recipe.train.seed,
        recipe.data.mask_documents,
        recipe.objective.model_dump(mode="json"),
    ]
    key = hashed([digest(model.parameters()), built.inputs(), batch, length, settings])
    place = cache_folder() / "difficulty" / f"{key[:24]}.npy"
    if place.is_file():
        saved: np.ndarray = np.load(place)
        return saved
    frozen = {
        role: model_of_role
        for role, model_of_role in built.step.loss.roles.items()
        if role != "model"
    }
    forward = Forward(model, build_objective(recipe), mx.float32, frozen)
    params = model.trainable_parameters()
    losses = np.empty(rows.per_epoch)
    for row in range(rows.per_epoch):
        arrays = rows.batch(np.array([row]))
        loss = forward(params, {n: mx.array(arrays[n]) for n in sorted(arrays)}, Context())
        losses[row] = (loss.total / loss.weight).item()
    _keep(place, losses)
    return losses


def _keep(place: Path, losses: np.ndarray) -> None:
    """Write an array to the cache, complete or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(f".{os.getpid()}.partial.npy")
    np.save(partial, losses)
    os.replace(partial, place)
