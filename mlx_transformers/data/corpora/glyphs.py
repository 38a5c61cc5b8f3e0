"""Glyphs of a font as pictures: the shared part of the corpora of icons and emoji."""

import hashlib
import io
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..pictures.read import Channels
from .records import PackagedCorpus, Row

SIDE = 32
"""Height and width of a picture, in pixels."""
MISSING = "\U0010ffff"
"""A code point without a character, for which fonts draw the sign of a missing glyph."""
MARGIN = 2
"""Pixels around a glyph."""


class DrawnCorpus(PackagedCorpus):
    """Records whose `image` is drawn from a font, `uint8 [32, 32, channels]`.

    Its digest is that of the packages' files: the pixels depend on the version of FreeType.
    """

    @cached_property
    @abstractmethod
    def files(self) -> Mapping[str, bytes]:
        """The files of the packages that it reads, by name."""

    def digest(self) -> str:
        total = hashlib.sha256()
        for name, data in sorted(self.files.items()):
            total.update(f"{name.rsplit('/', 1)[-1]} {len(data)}\n".encode())
            total.update(data)
        return total.hexdigest()

    def content_digest(self, records: list[Row]) -> str:
        return self.digest()


class Pen:
    """Draws glyphs of one font in the middle of a picture, black on white or in colours.

    Args:
        font: a TrueType font.
        channels: 3 draws in the colours of the font, 1 in black.
    """

    SIZE = 96
    """Size at which glyphs are drawn, before they are reduced."""

    def __init__(self, font: bytes, channels: Channels) -> None:
        self.font = ImageFont.truetype(io.BytesIO(font), self.SIZE)
        self.channels = channels
        self.missing = self._drawn(MISSING)

    def draw(self, glyph: str) -> np.ndarray | None:
        """Return the picture `uint8 [32, 32, channels]` of a glyph; None if the font lacks it."""
        picture = self._drawn(glyph)
        if picture is None or self.missing is None:
            return picture
        return None if np.array_equal(picture, self.missing) else picture

    def _drawn(self, glyph: str) -> np.ndarray | None:
        room = 2 * self.SIZE
        mode, white = ("RGB", (255, 255, 255)) if self.channels == 3 else ("L", 255)
        paper = Image.new(mode, (room, room), white)
        place = (room // 2, room // 2)
        ImageDraw.Draw(paper).text(
            place, glyph, 0, font=self.font, anchor="mm", embedded_color=self.channels == 3
        )
        ink = ImageOps.invert(paper).getbbox()
        if ink is None:
            return None
        left, top, right, bottom = ink
        side = max(bottom - top, right - left)
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        square = paper.crop((x, y, x + side, y + side))
        small = square.resize((SIDE - 2 * MARGIN,) * 2, Image.Resampling.BOX)
        picture = Image.new(mode, (SIDE, SIDE), white)
        picture.paste(small, (MARGIN, MARGIN))
        return np.asarray(picture).reshape(SIDE, SIDE, self.channels)
