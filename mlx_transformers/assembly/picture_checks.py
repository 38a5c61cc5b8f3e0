"""Checks between a model that sees and the pictures that it is given."""

from ..core.errors import RecipeError
from ..data.batches.captions import Captions
from ..data.batches.image_text import ImageText
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.clip import Clip
from ..models.vlm import Vlm
from .recipe import Recipe


def check_pictures(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Check that pictures have the size of the model's tower, and image tokens those of the model.

    Raises:
        RecipeError: they differ; the message names both keys and the cure.
    """
    model, batch = recipe.model, recipe.data.batch
    if not isinstance(model, Clip | Vlm) or not isinstance(batch, ImageText | Captions):
        return
    tower = model.vision
    _same("data.batch.size", list(batch.size), "model.vision.image_size", list(tower.image_size))
    channels = tower.patches.channels
    _same("data.batch.channels", batch.channels, "model.vision.embed.channels", channels)
    if isinstance(model, Vlm) and isinstance(batch, Captions):
        count = tower.n_vectors - (1 if model.drop_class else 0)
        _same("data.batch.patches", batch.patches, "the number of vectors of model.vision", count)
        token = tokenizer.control("image")
        _same("model.image_token", model.image_token, "the tokenizer's image token", token)


def _same(key: str, value: object, other: str, wanted: object) -> None:
    if value != wanted:
        raise RecipeError(f"{key} = {value}, and {other} is {wanted}: set {key} = {wanted}.")
