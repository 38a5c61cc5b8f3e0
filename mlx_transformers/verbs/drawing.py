"""Drawings of texts and captions of pictures, by one model that reads and writes both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..assembly.picture_checks import check_picture_tokens
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.saved import load
from ..core.errors import DataError, RunError
from ..core.parse import read_table
from ..data.batches.mixed_modal import MixedModal
from ..data.pictures.preprocess import read_resized
from ..data.pictures.prompt import PLACEHOLDER
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.engine import Engine
from ..decode.sample import Sampling
from ..models.model import Decodable, Model
from ..models.vqvae import VqvaeModel
from ..objectives.mixed_modal import with_codes
from ..objectives.objective import PICTURES
from ..runs.checkpoint import STATE
from ..runs.folder import find_checkpoint
from ..runs.tensors import digest

ROWS = 32
"""Pictures that are drawn at once."""
MARGIN = 2
"""White pixels between the drawings of a sheet."""


@dataclass(frozen=True)
class Artist:
    """A model of text and picture tokens, with the VQ-VAE of its pictures.

    Attributes:
        model: the decoder.
        tokenizer: the tokenizer of its texts, with the tokens of pictures.
        kind: how rows are laid out.
        pictures: turns pictures into tokens and back.
    """

    model: Decodable
    tokenizer: Tokenizer
    kind: MixedModal
    pictures: VqvaeModel

    @classmethod
    def of(cls, recipe: Recipe, model: Model, tokenizer: Tokenizer, pictures: Model) -> "Artist":
        """The artist of a recipe with batches of kind `mixed_modal`.

        Raises:
            RecipeError: `pictures` doesn't make the tokens of the recipe's pictures.
        """
        kind, run = recipe.data.batch, recipe.objective.frozen()[PICTURES]
        assert isinstance(kind, MixedModal), "the caller has looked at the batches"
        assert isinstance(model, Decodable), "the objective trains decoders alone"
        return cls(model, tokenizer, kind, check_picture_tokens(recipe, run, pictures))

    def codes(self, pixels: mx.array) -> mx.array:
        """The picture tokens `[B, P]`, counted from the first code, of `pixels [B, ...]`."""
        return self.pictures.picture_tokens(pixels)

    def prompt(self, text: str, image: Path | None = None) -> list[int]:
        """The tokens of a row that begins with a text, with the picture of a file where `<image>`
        stands.

        Raises:
            RunError: there is a picture and not one `<image>`, or the other way round, or the file
                can't be read.
        """
        count = text.count(PLACEHOLDER)
        if image is None and count:
            raise RunError(f"The prompt has {PLACEHOLDER}, and there is no picture: --image FILE.")
        if image is not None and count != 1:
            raise RunError(
                f"The prompt has {PLACEHOLDER} {count} times, and --image is one picture: write it "
                "once, where the picture stands."
            )
        codes = mx.zeros((1, self.kind.patches), mx.int32)
        if image is not None:
            try:
                pixels = read_resized(image, self.kind.size, self.kind.channels)
            except DataError as error:
                raise RunError(
                    f"--image {error} To have {image} drawn, say what with --prompt TEXT."
                ) from None
            codes = self.codes(mx.array(pixels[None].astype(np.int32)))
        parts = [
            self.tokenizer.encode(part) if part.strip() else [] for part in text.split(PLACEHOLDER)
        ]
        tokens, places = self.kind.laid_out(self.tokenizer, parts)
        placed = with_codes(mx.array(tokens)[None], mx.array(places)[None], codes)
        return [int(token) for token in np.array(placed[0])]

    def picture_prompt(self, text: str) -> list[int]:
        """The tokens after which a picture of a text begins."""
        return [*self.prompt(text), self.tokenizer.control("image")]

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int = 0,
        rows: int = ROWS,
    ) -> np.ndarray:
        """Draw a picture after each prompt, `uint8 [N, height, width, channels]`; number n with the
        seed `seed + n`, `rows` of them at once.

        Raises:
            RunError: a prompt is too long, or the model's logits are not finite.
        """
        first, count = self.tokenizer.control("code_0"), self.kind.patches
        longest = max(map(len, prompts))
        if longest + count > self.model.max_seq_len:
            raise RunError(
                f"The prompt has {longest} tokens and a picture {count}, more than the model's "
                f"context of {self.model.max_seq_len}: shorten the prompt."
            )
        engine = Engine(
            self.model, sampling=sampling, first=first, vocab_size=first + self.kind.n_codes
        )
        drawn = []
        for at in range(0, len(prompts), rows):
            some = prompts[at : at + rows]
            engine.start(some, [seed + at + i for i in range(len(some))])
            tokens = np.array(list(engine.tokens(count))).T - first
            drawn.append(np.array(self.pictures.pictures(mx.array(tokens))))
        return np.concatenate(drawn)


def load_artist(
    run: str | Path | None, loaded: tuple[Model, Tokenizer] | None = None
) -> Artist | None:
    """Load the artist of a run, from its best checkpoint or the one named; None for a run whose
    model doesn't draw.

    Args:
        run: the run.
        loaded: its model and tokenizer, if they are loaded already.

    Raises:
        RunError: there is no such run, or its VQ-VAE is another one than it was trained with.
    """
    folder, checkpoint = find_checkpoint(run)
    recipe = load_recipe(folder.recipe)
    name = recipe.objective.frozen().get(PICTURES)
    if not isinstance(name, str):
        return None
    model, tokenizer = loaded or load(run)
    # A folder of runs may be read from elsewhere: then the VQ-VAE is beside the run.
    beside = folder.path.parent / name
    pictures, _ = load(beside if (beside / "recipe.toml").is_file() else name)
    before = read_table(checkpoint / STATE).get("frozen", {}).get(PICTURES)
    if before is not None and before != digest(pictures.parameters()):
        raise RunError(
            f"{checkpoint} was trained with other weights of objective.pictures = '{name}' than "
            "that run has now, so its picture tokens mean something else: bring the old run back, "
            "or train this one again."
        )
    return Artist.of(recipe, model, tokenizer, pictures)


def sheet(drawings: np.ndarray, columns: int) -> np.ndarray:
    """Drawings `[N, height, width, channels]` side by side in one picture, row by row; one alone
    as it is."""
    n, height, width, channels = drawings.shape
    if n == 1:
        alone: np.ndarray = drawings[0]
        return alone
    rows = -(-n // columns)
    down, across = height + MARGIN, width + MARGIN
    paper = np.full((rows * down + MARGIN, columns * across + MARGIN, channels), 255, np.uint8)
    for i, drawing in enumerate(drawings):
        top, left = MARGIN + i // columns * down, MARGIN + i % columns * across
        paper[top : top + height, left : left + width] = drawing
    return paper
