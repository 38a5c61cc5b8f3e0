"""Builds the model of a recipe."""

import mlx.core as mx

from ..core.errors import RecipeError
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.adapters.adapter import adapt
from ..layers.freeze import freeze
from ..layers.packed import pack_layers
from ..models.model import Model, layers_of, recompute_layers
from .recipe import Recipe

DRAFT_VOCAB_SIZE = 256
"""Vocabulary size of a draft whose recipe doesn't give one."""


def build_model(recipe: Recipe, tokenizer: Tokenizer, *, reads_text: bool = True) -> Model:
    """Build the model of a recipe initialised from its seed.

    A published model may have fewer tokens than its tokenizer: tokens for pictures, say.

    Args:
        recipe: the recipe.
        tokenizer: the tokenizer of its text.
        reads_text: whether every text will be read without another check of its tokens.

    Raises:
        RecipeError: its sizes don't go together, or a text may have tokens that the model lacks.
    """
    vocab_size = recipe.model.vocab_size
    if reads_text and vocab_size is not None and vocab_size < tokenizer.text_id_limit:
        raise RecipeError(
            f"model.vocab_size = {vocab_size} is smaller than the tokenizer's "
            f"{tokenizer.text_id_limit}: leave model.vocab_size out, or make it larger."
        )
    mx.random.seed(recipe.train.seed)
    return _model(recipe, tokenizer.vocab_size)


def recipe_vocab_size(recipe: Recipe) -> int | None:
    """The size of the vocabulary if the recipe gives it; None if only the text decides it."""
    vocab_size = recipe.model.vocab_size
    text = recipe.data.tokenizer.known_vocab_size
    return vocab_size or (text and text + len(recipe.data.batch.controls()))


def draft_model(recipe: Recipe) -> Model:
    """Build the model of a recipe before its text is read, to inspect and check it.

    If only the text decides the vocabulary, its size is `DRAFT_VOCAB_SIZE`. Weights stay lazy, so
    this is cheap.

    Raises:
        RecipeError: its sizes don't go together.
    """
    return _model(recipe, recipe_vocab_size(recipe) or DRAFT_VOCAB_SIZE)


def _model(recipe: Recipe, vocab_size: int) -> Model:
    try:
        model = recipe.model.build(vocab_size)
        if recipe.packed is not None:
            pack_layers(model, recipe.packed.choices(model))
        if recipe.adapt is not None:
            adapt(model, recipe.adapt)
        freeze(model, recipe.train.freeze)
    except RecipeError as error:
        name = f"{recipe.resolved.name}: " if recipe.resolved else ""
        raise RecipeError(f"{name}{error}") from None
    if recipe.train.recompute != "none":
        count = len(layers_of(model))
        chosen = recipe.train.recomputed(count)
        outside = [i for i in chosen if not 0 <= i < count]
        if outside:
            raise RecipeError(
                f"train.recompute names block {outside[0]}, but the model has blocks 0 to "
                f"{count - 1}."
            )
        if chosen and any(tower.reversible for tower in recipe.model.towers()):
            raise RecipeError(
                "train.recompute has no effect on a reversible stack, which saves no activations: "
                "leave it out."
            )
        recompute_layers(model, frozenset(chosen))
    return model
