"""From a picture to the numbers that a vision tower reads: resize, crop, rescale, normalise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...ops.resample import Filter
from .read import read_picture
from .resize import resize

Channels = tuple[float, ...]


@dataclass(frozen=True)
class Preprocess:
    """How pictures become inputs, as a checkpoint's `preprocessor_config.json` says it.

    Attributes:
        short: the length of the shorter side after resizing; the longer one keeps the ratio.
        size: height and width after resizing, whatever the ratio; in place of `short`.
        crop: height and width of the middle that is cut out; black is added where it is larger.
        resample: filter of the resizing.
        scale: factor of the pixels' values, 0 to 255.
        mean: subtracted from each channel after scaling; empty: nothing.
        std: divides each channel.
    """

    short: int | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    resample: Filter = "bicubic"
    scale: float = 1 / 255
    mean: Channels = ()
    std: Channels = ()

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The input `float32 [height, width, channels]` of a picture `uint8` of any size."""
        x = self.resized(picture)
        if self.crop is not None:
            x = centre_crop(x, *self.crop)
        return normalise(x, self.scale, self.mean, self.std)

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """The picture at its new size, uint8."""
        if self.size is not None:
            return resize(picture, *self.size, self.resample)
        if self.short is None:
            return picture
        height, width = short_side(picture.shape[0], picture.shape[1], self.short)
        return resize(picture, height, width, self.resample)


def read_resized(path: Path, size: tuple[int, int], channels: int, where: str = "") -> np.ndarray:
    """Read a picture file as `uint8 [height, width, channels]` of a size, whatever its ratio.

    Args:
        path: the file.
        size: height and width.
        channels: 1 for grey; RGB otherwise.
        where: name of the picture in messages; the file's by default.

    Raises:
        DataError: as `read_picture` does.
    """
    return Preprocess(size=size).resized(read_picture(path, 1 if channels == 1 else 3, where))


def short_side(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width with the shorter side `short`, and the longer one in proportion, cut to
    whole pixels."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def centre_crop(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle `[height, width]` of a picture; zeros are added where it is smaller."""
    tall, wide = max(height - x.shape[0], 0), max(width - x.shape[1], 0)
    if tall or wide:
        # An odd row or column goes before the picture, as transformers pads.
        x = np.pad(x, ((-(-tall // 2), tall // 2), (-(-wide // 2), wide // 2), (0, 0)))
    top, left = (x.shape[0] - height) // 2, (x.shape[1] - width) // 2
    return x[top : top + height, left : left + width]


def normalise(x: np.ndarray, scale: float, mean: Channels = (), std: Channels = ()) -> np.ndarray:
    """`(scale * x - mean) / std` for each channel, in float32."""
    y = x.astype(np.float64) * scale
    if mean:
        y = y - np.asarray(mean)
    if std:
        y = y / np.asarray(std)
    return y.astype(np.float32)
