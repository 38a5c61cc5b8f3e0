"""Shared base of batch kinds whose records have a picture."""

import numpy as np
from pydantic import Field

from ..pictures.augment import shifted
from ..pictures.field import Size, picture
from ..pictures.read import Channels
from ..pieces import Piece
from .record_kind import RecordKind


class PictureKind(RecordKind):
    """A record has a picture: the path of a file, which is resized, or its numbers."""

    image_key: str = "image"
    """Field of the picture: the path of a file, or its numbers."""
    size: tuple[int, int]
    """Height and width of the pictures, in pixels: those of the model that reads them."""
    channels: Channels = 3
    """Numbers of a pixel: 3 for RGB, 1 for grey."""
    shift: int = Field(0, ge=0)
    """Pixels by which pictures are shifted at most in training, in either direction."""

    @property
    def shape(self) -> Size:
        """Height, width and channels."""
        return (*self.size, self.channels)

    def picture(self, piece: Piece) -> np.ndarray:
        """Read the picture of a record, `[height, width, channels]`.

        Raises:
            RowError: it can't be read.
        """
        assert piece.record is not None, "with_words has seen to it"
        return picture(piece.record[self.image_key], self.shape, self.image_key, piece)

    def optional_picture(self, piece: Piece) -> np.ndarray | None:
        """`picture`; None where it is missing, empty or null."""
        value = (piece.record or {}).get(self.image_key)
        missing = value is None or (isinstance(value, str) and not value.strip())
        return None if missing else self.picture(piece)

    def augmented(self, pixels: np.ndarray, rng: np.random.Generator, train: bool) -> np.ndarray:
        """The picture of the numbers `pixels`, shifted at random in training."""
        return shifted(pixels.reshape(self.shape), self.shift if train else 0, rng)
