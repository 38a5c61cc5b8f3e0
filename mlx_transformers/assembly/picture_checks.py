"""Checks between a model that reads pictures and the pictures that it is given."""

from ..core.errors import RecipeError
from ..data.batches.captions import Captions
from ..data.batches.image_text import ImageText
from ..data.batches.images import Images
from ..data.batches.mixed_modal import MixedModal
from ..data.batches.pictures import Pictures
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.clip import Clip
from ..models.mae import Mae
from ..models.model import Model
from ..models.vision import Vision
from ..models.vlm import Vlm
from ..models.vqvae import Vqvae, VqvaeModel
from .recipe import Recipe


def check_pictures(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Check that pictures have the size of the model's tower, and image tokens those of the model.

    Raises:
        RecipeError: they differ; the message names both keys and the cure.
    """
    model, batch = recipe.model, recipe.data.batch
    if not isinstance(batch, ImageText | Captions | Images | Pictures) or batch.size is None:
        return
    if isinstance(model, Vqvae):
        tower, path = model.encoder, "model.encoder"
    elif isinstance(model, Vision):
        tower, path = model, "model"
    elif isinstance(model, Clip | Vlm | Mae):
        tower, path = model.vision, "model.vision"
    else:
        return
    _same("data.batch.size", list(batch.size), f"{path}.image_size", list(tower.image_size))
    channels = tower.patches.channels
    _same("data.batch.channels", batch.channels, f"{path}.embed.channels", channels)
    if isinstance(batch, Images | Pictures):
        numbers = tower.image_size[0] * tower.image_size[1] * channels
        _same("train.seq_len", recipe.train.seq_len, "a picture's number of numbers", numbers)
    if isinstance(model, Vlm) and isinstance(batch, Captions):
        count = tower.n_vectors - (1 if model.drop_class else 0)
        _same("data.batch.patches", batch.patches, "the number of vectors of model.vision", count)
        token = tokenizer.control("image")
        _same("model.image_token", model.image_token, "the tokenizer's image token", token)


def check_picture_tokens(recipe: Recipe, run: str, model: Model) -> VqvaeModel:
    """Return the model of `objective.pictures`, after checking that it is a VQ-VAE that turns the
    recipe's pictures into the tokens of its batches.

    Raises:
        RecipeError: it is another model, or a size differs; the message names the cure.
    """
    key, batch = f"objective.pictures = '{run}'", recipe.data.batch
    if not isinstance(model, VqvaeModel):
        raise RecipeError(
            f"{key} is no run of a VQ-VAE (model.kind = 'vqvae'), so it can't turn pictures into "
            "tokens: train one with mlxt train recipes/multimodal/vqvae_tiny.toml, and name it."
        )
    if isinstance(batch, MixedModal):
        reads = f"what {key} reads"
        _same("data.batch.size", list(batch.size), reads, list(model.image_size))
        _same("data.batch.channels", batch.channels, reads, model.channels)
        _same(
            "data.batch.patches",
            batch.patches,
            f"the tokens of a picture of {key}",
            model.n_patches,
        )
        _same("data.batch.n_codes", batch.n_codes, f"the codes of {key}", model.n_codes)
    return model


def _same(key: str, value: object, other: str, wanted: object) -> None:
    if value != wanted:
        raise RecipeError(f"{key} = {value}, and {other} is {wanted}: set {key} = {wanted}.")
