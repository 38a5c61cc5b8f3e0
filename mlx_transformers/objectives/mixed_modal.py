"""Next-token prediction over text and the tokens of pictures."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, cast

import mlx.core as mx

from ..core.context import Context
from ..core.loss import Loss
from .clm import ClmObjective, NextTokenKind
from .objective import PICTURES, Arrays, VocabularyModel


class PictureTokenizer(Protocol):
    """A model that writes a picture as tokens."""

    def picture_tokens(self, pixels: mx.array) -> mx.array:
        """The indices `[B, P]` of the codes of `pixels [B, height, width, channels]`."""
        ...


class MixedModal(NextTokenKind):
    """Causal language modelling of text and pictures in one vocabulary; Chameleon Team 2024,
    section 2. The tokens of a picture are the codes of a VQ-VAE, which is not trained."""

    kind: Literal["mixed_modal"] = "mixed_modal"
    requires: ClassVar[tuple[str, ...]] = ("pixels", "tokens", "places", "weights")
    pictures: str
    """The run of the VQ-VAE, by name or folder; its best checkpoint."""

    def frozen(self) -> dict[str, str]:
        return {PICTURES: self.pictures}

    def build(self) -> "MixedModalObjective":
        return MixedModalObjective(self)


class MixedModalObjective:
    """`(models, batch, ctx) -> Loss`, where models have a VQ-VAE as "pictures", and batch has
    `pixels`, `tokens` and `places` `[B, T + 1]`, and `weights [B, T]`."""

    def __init__(self, config: MixedModal) -> None:
        self.next_token = ClmObjective(config)

    def __call__(self, models: Mapping[str, VocabularyModel], batch: Arrays, ctx: Context) -> Loss:
        tokenizer = cast("PictureTokenizer", models[PICTURES])
        codes = mx.stop_gradient(tokenizer.picture_tokens(batch["pixels"]))
        text = {"tokens": with_codes(batch["tokens"], batch["places"], codes)}
        return self.next_token(models, text | {"weights": batch["weights"]}, ctx)


def with_codes(tokens: mx.array, places: mx.array, codes: mx.array) -> mx.array:
    """The tokens `[B, T]` of rows with the codes `[B, P]` of their pictures, where `places [B, T]`
    has the number of a patch, from 1 on, and `tokens` the first code; 0 is text."""
    row_codes = mx.take_along_axis(codes, mx.maximum(places - 1, 0), axis=1)
    return mx.where(places > 0, tokens + row_codes.astype(tokens.dtype), tokens)
