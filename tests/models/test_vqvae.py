"""The codebook against its equations, and what a VQ-VAE is refused for."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from mlx_transformers.assembly.model import draft_model
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context
from mlx_transformers.layers.codebook import Codebook
from mlx_transformers.models.vqvae import Vqvae, VqvaeModel
from tests.contract.models import VQVAE
from tests.contract.suite import parse

N_CODES, WIDTH = 6, 3


def stepped(book: Codebook, z: np.ndarray, finite: bool = True) -> np.ndarray:
    """The numbers that vectors choose, and the codebook after a step with them."""
    ctx = Context(key=mx.random.key(0))
    book.label = "book"
    _, numbers = book(mx.array(z), ctx)
    stats = {k.partition(":")[2]: v for k, v in ctx.collected.stats.items() if ":" in k}
    book.after_step(stats, mx.array(finite))
    return np.array(numbers)


def made(revive: float = 0.0, decay: float = 0.9) -> Codebook:
    mx.random.seed(1)
    return Codebook(N_CODES, WIDTH, decay, revive)


def test_a_vector_becomes_its_nearest_code_and_its_gradient_passes_straight_through() -> None:
    book, z = made(), np.random.default_rng(0).standard_normal((2, 5, WIDTH)).astype(np.float32)
    codes, numbers = book(mx.array(z), Context())
    distances = np.square(z[..., None, :] - np.array(book.codes)).sum(axis=-1)
    assert np.array_equal(numbers, distances.argmin(axis=-1))
    assert np.allclose(codes, np.array(book.codes)[np.array(numbers)], atol=1e-6)
    weight = mx.arange(WIDTH).astype(mx.float32)
    grad = mx.grad(lambda z: (book(z, Context())[0] * weight).sum())(mx.array(z))
    assert np.array_equal(grad, np.broadcast_to(np.array(weight), z.shape))
    assert not book.trainable_parameters()


def test_codes_are_moving_means_of_the_vectors_that_chose_them() -> None:
    book, rng = made(), np.random.default_rng(0)
    share, codes = np.full(N_CODES, 1 / N_CODES), np.array(book.codes)
    sums = codes * share[:, None]  # N and m of the paper, divided by the vectors of a step
    for _ in range(3):
        z = rng.standard_normal((20, WIDTH)).astype(np.float32)
        chosen = np.eye(N_CODES)[stepped(book, z)]
        share = 0.9 * share + 0.1 * chosen.mean(axis=0)
        sums = 0.9 * sums + 0.1 * chosen.T @ z / len(z)
        assert np.allclose(book.codes, sums / share[:, None], atol=1e-5)
        assert np.allclose(book.cluster_size, share, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_codes_that_no_vector_chooses_stay_where_they_are(decay: float) -> None:
    book, before = made(decay=decay), np.array(made().codes)
    z = np.random.default_rng(0).standard_normal((3, WIDTH)).astype(np.float32)
    unused = [n for n in range(N_CODES) if n not in stepped(book, z)]
    np.testing.assert_allclose(np.array(book.codes)[unused], before[unused], rtol=1e-5)


def test_a_skipped_step_moves_no_code() -> None:
    book = made(revive=0.9, decay=0.1)
    before = np.array(book.codes)
    stepped(book, np.ones((4, WIDTH), np.float32), finite=False)
    assert np.array_equal(book.codes, before)


def test_unused_codes_move_to_where_vectors_are() -> None:
    rng = np.random.default_rng(0)
    z = (20 + rng.standard_normal((200, WIDTH))).astype(np.float32)
    alone, revived = made(revive=0.0), made(revive=0.5)
    for _ in range(60):
        first, second = stepped(alone, z), stepped(revived, z)
    assert len(np.unique(first)) == 1
    assert len(np.unique(second)) == N_CODES


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder": VQVAE["decoder"] | {"image_size": [2, 3]}}, r"image_size = \[3, 3\]"),
        ({"encoder": VQVAE["encoder"] | {"pool": {"kind": "sentence"}}}, "encoder.pool"),
        (
            {"encoder": VQVAE["encoder"] | {"embed": VQVAE["encoder"]["embed"] | {"registers": 1}}},
            "class_token = false",
        ),
        (
            {"encoder": VQVAE["encoder"] | {"embed": VQVAE["encoder"]["embed"] | {"size": 2}}},
            "no whole number of patches",
        ),
    ],
)
def test_towers_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Vqvae.model_validate(VQVAE | changes)


def test_pictures_are_decoded_to_whole_numbers_from_their_tokens() -> None:
    model = parse("model", VQVAE).build(256)
    pixels = mx.array(np.random.default_rng(0).integers(0, 256, (2, 3, 3, 1)))
    numbers = model.picture_tokens(pixels)
    decoded = model.pictures(numbers)
    assert numbers.shape == (2, 9)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == mx.uint8
    scaled = model.patches.scaled(pixels)
    assert np.array_equal(model.patches.to_uint8(scaled), pixels)


@pytest.mark.parametrize(
    ("writer", "reader", "channels"),
    [
        ("vqvae_tiny", "chameleon_tiny", 3),
        ("vqvae_fine_tiny", "chameleon_fine_tiny", 3),
        ("vqvae_icons_tiny", None, 1),
    ],
)
def test_recipes_of_pictures_as_tokens_agree_on_their_number(
    writer: str, reader: str | None, channels: int
) -> None:
    model = draft_model(load_recipe(f"multimodal/{writer}"))
    assert isinstance(model, VqvaeModel)
    numbers = model.picture_tokens(mx.zeros((1, 32, 32, channels), mx.uint8))
    assert numbers.shape == (1, 16 if writer == "vqvae_tiny" else 64)
    if reader is None:
        return
    recipe = load_recipe(f"multimodal/{reader}")
    batch = recipe.data.batch.model_dump()
    assert batch["patches"] == numbers.shape[1]
    assert batch["n_codes"] == model.n_codes
    assert recipe.objective.frozen() == {"pictures": writer}
    assert recipe.train.seq_len > batch["patches"] + 3
