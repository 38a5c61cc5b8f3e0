"""Picture files as arrays: formats, colour modes, transparency, orientation, and refusals."""

import io
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...core.errors import DataError, Notice, reason
from ..contents import contents

Channels = Literal[1, 3]
"""Numbers of a pixel: grey, or red, green and blue."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read. Others that Pillow knows run programs (EPS) or are rare."""

MAX_PIXELS = 1 << 26
"""Pixels of the largest picture that is decoded, 8,192 x 8,192: 200 MB in memory."""

BACKGROUND = (255, 255, 255)
"""Colour behind what is transparent."""


def read_picture(source: Path | bytes, channels: Channels = 3, where: str = "") -> np.ndarray:
    """Return a picture `uint8 [height, width, channels]`, upright, of the first frame.

    Transparent parts are laid on white, palettes and CMYK become RGB, 16 bits a channel become 8,
    and the orientation that a camera noted (EXIF) is applied. Pixels are counted before any is
    decoded, so that a small file can't fill the memory.

    Args:
        source: the file, or its bytes.
        channels: 3 for RGB, 1 for grey.
        where: name of the picture in messages; the file's by default.

    Raises:
        DataError: the file is missing, no picture, damaged, or has too many pixels.
    """
    name = where or (str(source) if isinstance(source, Path) else "The picture")
    data = contents(source, name)
    try:
        with warnings.catch_warnings():
            # The check below is stricter than Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError(_no_picture(name, data)) from None
    except Image.DecompressionBombError:
        raise DataError(_too_large(name)) from None
    except Exception as error:  # decoders raise many kinds for a damaged header
        raise DataError(_damaged(name, error)) from None
    with picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise DataError(_too_large(name, f"{width:,} x {height:,} pixels"))
        try:
            if _has_frames(picture):
                notice = f"{name} has several frames or pages: the first is read, and no other."
                warnings.warn(notice, Notice, stacklevel=2)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            pixels = np.asarray(_opaque(upright).convert("RGB" if channels == 3 else "L"))
        except Exception as error:  # as above, for its pixels
            raise DataError(_damaged(name, error)) from None
    return pixels.reshape(*pixels.shape[:2], channels)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture `uint8 [height, width, 1 or 3]` to a new file, in the format of its suffix.

    Raises:
        DataError: another suffix, or the file exists or can't be written.
    """
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path}: end the name of a picture with one of {', '.join(kinds)}.")
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    try:
        with open(path, "xb") as file:
            image.save(file, format=kind)
    except FileExistsError:
        raise DataError(f"{path} exists already: choose another name, or remove it.") from None
    except OSError as error:
        raise DataError(f"{path} can't be written: {reason(error)}.") from None


def _has_frames(picture: Image.Image) -> bool:
    """Whether a second frame follows; the picture stays at its first. What cameras write behind a
    photograph (MPO), a preview or the map of its brightness, is no frame."""
    if picture.format == "MPO":
        return False
    try:
        picture.seek(1)
    except EOFError:
        return False
    picture.seek(0)
    return True


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture at 8 bits a channel, on white where it is transparent."""
    if picture.mode == "I" and picture.format != "PNG":
        raise ValueError("32 bits a channel, whose white isn't known; save it with 8")
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("pixels that are floats; save it with 8 bits a channel")
    if not picture.has_transparency_data:
        return picture
    colours = picture.convert("RGBA")
    ground: Any = (*BACKGROUND, 255)
    return Image.alpha_composite(Image.new("RGBA", colours.size, ground), colours)


def _no_picture(name: str, data: bytes) -> str:
    kinds = ", ".join(FORMATS)
    if b"<svg" in data[:1024].lower():
        return f"{name} is an SVG drawing, which has no pixels: save it as PNG."
    return (
        f"{name} is no picture that can be read: formats are {kinds}. If it is one in another "
        "format, save it as PNG."
    )


def _too_large(name: str, size: str = "far too many pixels") -> str:
    side = int(MAX_PIXELS**0.5)
    return (
        f"{name} has {size}, more than {MAX_PIXELS:,} ({side:,} x {side:,}), and isn't decoded: "
        "make it smaller."
    )


def _damaged(name: str, error: Exception) -> str:
    return f"{name} is a damaged picture, or of an unusual kind ({error}): save it as PNG again."
