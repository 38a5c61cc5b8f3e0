"""The inside of a model of pictures: attention of its patches, and the class by each layer."""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.context import Collected, Context
from ..core.errors import RunError
from ..data.pictures.preprocess import read_resized
from ..layers.patches import PatchEmbedding
from ..layers.pools import ClassifierModule
from ..models.vision import VisionModel
from .trace import LayerTrace, Trace

MOST_VECTORS = 1024
"""The most vectors of a picture: a head's matrix has as many rows and columns."""
CLASSES = 5
"""Classes of each layer that are kept."""


@dataclass(frozen=True)
class SightLayer:
    """One layer of a tower of pictures.

    Attributes:
        mixer: kind of its mixer.
        kind: what `weights` are: `attention`; `implied`, the matrix of a mixer that never forms
            it; "" where there is none.
        weights: `[H, T, T]`, of which row t says what vector t reads; None where the mixer has no
            such matrix, or reads some of the vectors only (a routed block).
        distance: mean distance in pixels between a patch and the patches that it reads, by head
            (Dosovitskiy et al. 2021, figure 7), `[H]`.
        stream: length of the residual stream's vectors after the layer, `[T]`.
        classes: the most probable classes by the model's own norm and class head, from the layer's
            output; None where the model has no class head.
        probability: their probabilities.
    """

    mixer: str
    kind: str
    weights: np.ndarray | None
    distance: np.ndarray | None
    stream: np.ndarray
    classes: list[int] | None
    probability: np.ndarray | None


@dataclass(frozen=True)
class Sight:
    """All that `look_at` saw. T vectors: those in front, then the patches, row by row.

    Attributes:
        pixels: the part of the picture that patches read, as the model reads it, `uint8 [height,
            width, channels]`.
        grid: rows and columns of its patches.
        front: names of the vectors in front of the patches.
        layers: all layers, in the order that they run.
        halts: whether the model's answer is a mixture of the layers' outputs, by the halting of
            each vector (adaptive computation time), instead of the last layer's.
    """

    pixels: np.ndarray
    grid: tuple[int, int]
    front: list[str]
    layers: list[SightLayer]
    halts: bool


def look_at(model: VisionModel, image: Path) -> Sight:
    """Look into a tower of pictures while it reads one.

    Args:
        model: the tower.
        image: a picture file, which is resized to the model's pictures.

    Raises:
        DataError: the picture can't be read.
        RunError: the picture has too many patches, or the model's layers run several times.
    """
    embed = model.embed
    assert isinstance(embed, PatchEmbedding), "the embedding of a vision tower"
    pixels = read_resized(image, model.image_size, embed.channels)
    grid = (pixels.shape[0] // embed.size, pixels.shape[1] // embed.size)
    front = _front(embed)
    if (count := len(front) + grid[0] * grid[1]) > MOST_VECTORS:
        raise RunError(
            f"The picture has {count:,} vectors for this model, and at most {MOST_VECTORS:,} can "
            "be looked at. Look at a model with larger patches or smaller pictures."
        )
    trace = Trace()
    ctx = Context(collected=Collected(observer=trace))
    model.features(model.embedded({"pixels": mx.array(pixels.astype(np.int32))[None]}, ctx), ctx)
    blocks = model.stack.layers()
    if len(trace.layers) != len(blocks):
        raise RunError(
            f"{len(trace.layers)} layers ran, and the model has {len(blocks)}, so they can't be "
            "distinguished. Look at a model whose depth runs each layer once."
        )
    mx.eval([recorded.arrays for recorded in trace.layers])
    layers = [
        _layer(model, block.config.mixer.kind, recorded_layer, grid, embed.size)
        for block, recorded_layer in zip(blocks, trace.layers, strict=True)
    ]
    read = pixels[: grid[0] * embed.size, : grid[1] * embed.size]
    return Sight(read, grid, front, layers, halts="steps" in trace.rest)


def _front(embed: PatchEmbedding) -> list[str]:
    names = [name for name in ("class_token", "distillation_token") if name in embed]
    count = len(embed.registers) if "registers" in embed else 0
    return [n.replace("_", " ") for n in names] + [f"register {i + 1}" for i in range(count)]


def _layer(
    model: VisionModel, mixer: str, recorded: LayerTrace, grid: tuple[int, int], size: int
) -> SightLayer:
    output = recorded.arrays["layer_output"]
    kind, weights = _weights(recorded, output.shape[1])
    classes, probability = None, None
    if "pool" in model and isinstance(model.pool, ClassifierModule):
        logits = model.pooled(model.norm(output), Context())[0].astype(mx.float32)
        shares = np.array(mx.softmax(logits))
        classes = [int(number) for number in np.argsort(-shares, kind="stable")[:CLASSES]]
        probability = shares[classes]
    return SightLayer(
        mixer=mixer,
        kind=kind,
        weights=weights,
        distance=None if weights is None else mean_distance(weights, grid, size),
        stream=np.array(mx.linalg.norm(output[0].astype(mx.float32), axis=-1)),
        classes=classes,
        probability=probability,
    )


def _weights(recorded: LayerTrace, count: int) -> tuple[str, np.ndarray | None]:
    """The matrix by which a layer's mixer weighs its values, over all vectors, and its kind."""
    kind = recorded.matrix()
    if kind is None or (matrix := recorded.arrays[kind][0]).shape[1:] != (count, count):
        return "", None
    return kind, np.array(matrix.astype(mx.float32))


def mean_distance(weights: np.ndarray, grid: tuple[int, int], size: int) -> np.ndarray:
    """The mean distance in pixels between patches and those that they read, `[H]`.

    Args:
        weights: `[H, T, T]`, of which magnitudes count, the patches being the last of T.
        grid: rows and columns of the patches.
        size: pixels on a side of a patch.
    """
    n = grid[0] * grid[1]
    patch_weights = np.abs(weights[:, -n:, -n:])
    places = np.stack(np.unravel_index(np.arange(n), grid), axis=-1)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    shares = patch_weights / np.maximum(patch_weights.sum(axis=-1, keepdims=True), 1e-9)
    means: np.ndarray = size * (shares * distance).sum(axis=-1).mean(axis=-1)
    return means
