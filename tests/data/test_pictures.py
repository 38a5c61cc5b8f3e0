"""Picture files: every colour mode becomes RGB, and files that are no pictures are refused."""

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mlx_transformers.core.errors import DataError, Notice
from mlx_transformers.data.batches.image_text import ImageText
from mlx_transformers.data.corpora import glyphs
from mlx_transformers.data.corpora.records import Row
from mlx_transformers.data.pictures import read
from mlx_transformers.data.pictures.augment import affine, warped
from mlx_transformers.data.pictures.read import read_picture, write_picture

from . import records

RED = (255, 0, 0)
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def half_red(mode: str) -> Image.Image:
    """Two pixels, a red one and one that is transparent where the mode can be."""
    image = Image.new("RGBA", (2, 1), (0, 255, 0, 0))
    image.putpixel((0, 0), (*RED, 255))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (half_red("RGBA"), "PNG", [[*RED], [255, 255, 255]]),
        (half_red("RGB"), "BMP", [[*RED], [0, 255, 0]]),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "TIFF", [[*RED], [*RED]]),
        (
            Image.new(
                "P",
                (2, 1),
                0,
            ),
            "GIF",
            [[0, 0, 0], [0, 0, 0]],
        ),
        (Image.fromarray(np.array([[0, 0x8123]], np.uint16)), "PNG", [[0] * 3, [0x81] * 3]),
        (Image.new("1", (2, 1), 1), "PNG", [[255] * 3, [255] * 3]),
    ],
    ids=["alpha", "bmp", "cmyk", "palette", "16 bits", "1 bit"],
)
def test_every_mode_becomes_rgb_on_white(
    image: Image.Image, kind: str, expected: list[list[int]]
) -> None:
    assert read_picture(saved(image, kind)).tolist() == [expected]


def test_a_transparent_colour_of_a_palette_is_white_too() -> None:
    image = Image.new("P", (1, 1), 0)
    assert read_picture(saved(image, transparency=0)).tolist() == [[[255, 255, 255]]]


def test_the_orientation_of_a_camera_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = read_picture(saved(half_red("RGB"), exif=exif))
    assert found.tolist() == [[[*RED]], [[0, 255, 0]]]


def test_the_first_frame_is_read_and_that_is_said() -> None:
    frames = [Image.new("RGB", (1, 1), RED), Image.new("RGB", (1, 1), "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(Notice, match="cat.gif has several frames or pages: the first"):
        assert read_picture(data, where="cat.gif").tolist() == [[[*RED]]]


def test_what_a_camera_writes_behind_a_photograph_is_no_frame() -> None:
    photograph = Image.new("RGB", (8, 8), RED)
    data = saved(photograph, "MPO", save_all=True, append_images=[photograph])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(data).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty file"),
        (b"%PDF-1.4 no picture", "no picture that can be read: formats are PNG"),
        (b'<?xml version="1.0"?><svg/>', "SVG drawing"),
        (saved(Image.new("RGB", (64, 64)))[:60], "damaged picture"),
        (saved(Image.new("F", (1, 1)), "TIFF"), "floats"),
        (saved(Image.new("I", (1, 1)), "TIFF"), "32 bits a channel"),
    ],
    ids=["empty", "another file", "svg", "cut short", "floats", "32 bits"],
)
def test_a_file_that_is_no_picture_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=rf"x\.png.*{told}"):
        read_picture(data, where="x.png")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = saved(Image.new("1", (9500, 9500)))
    assert len(bomb) < 1 << 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="more than 67,108,864"):
            read_picture(bomb)
    monkeypatch.setattr(read, "MAX_PIXELS", 3)
    with pytest.raises(DataError, match="2 x 2 pixels, more than 3"):
        read_picture(saved(Image.new("1", (2, 2))))


def test_a_missing_file_and_one_that_exists_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png can't be read: No such file"):
        read_picture(tmp_path / "a.png")
    picture = np.full((2, 3, 1), 7, np.uint8)
    write_picture(tmp_path / "a.png", picture)
    assert np.array_equal(read_picture(tmp_path / "a.png", 1), picture)
    with pytest.raises(DataError, match="exists already"):
        write_picture(tmp_path / "a.png", picture)
    with pytest.raises(DataError, match=r"one of \.png"):
        write_picture(tmp_path / "a.svg", picture)


BATCH = {"kind": "image_text", "size": [2, 2], "channels": 1}


def test_pictures_are_found_beside_the_records_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 4), "white").save(tmp_path / "in" / "a.jpg")
    rows = [{"image": "in/a.jpg", "text": f"{n}"} for n in range(20)]
    made = records.prepared(records.write(tmp_path, rows), BATCH)
    batch = records.train(made, 5).batch(np.arange(2))
    assert batch["pixels"].tolist() == [[[[255]] * 2] * 2] * 2
    assert batch["tokens"].shape == batch["valid"].shape == (2, 5)


@pytest.mark.parametrize(
    ("frame", "framed"),
    [
        ("cls_sep", ["cls", 65, 66, "sep"]),
        ("start_end", ["start", 65, 66, "end"]),
        ("end_filled", [65, 66, "end", "end", "end", "end"]),
    ],
)
def test_a_text_stands_in_the_frame_of_its_kind(
    tmp_path: Path, frame: str, framed: list[int | str]
) -> None:
    path = records.write(tmp_path, [{"image": "1 2 3 4", "text": f"{n}"} for n in range(20)])
    made, kind = records.prepared(path, BATCH | {"frame": frame})
    assert isinstance(kind, ImageText)
    tokenizer = made.tokenizer
    wanted = [tokenizer.control(x) if isinstance(x, str) else x for x in framed]
    found = kind.framed(tokenizer, [65, 66], 6)
    assert found["tokens"].tolist() == wanted
    assert found["valid"].tolist() == [True] * len(wanted)
    cut = kind.framed(tokenizer, [65] * 9, 6)["tokens"].tolist()
    assert len(cut) == 6
    assert cut[-1] == wanted[-1]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("b.png", r"records\.jsonl:1: .*b\.png can't be read.*bad_rows"),
        ("1 2 3", "3 numbers, .* ask for 2 x 2 x 1"),
        ("1 2 3 256", "'256' is no pixel"),
        (None, "holds no picture but null"),
        ("~no-such-user/a.png", "no home folder for the ~ in '~no-such-user/a.png'.*bad_rows"),
    ],
)
def test_a_picture_that_is_missing_or_of_another_size_is_named(
    tmp_path: Path, image: object, told: str
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({"image": image, "text": "a"}) + "\n")
    with pytest.raises(DataError, match=told):
        records.prepared(path, BATCH)


def test_a_glyph_is_drawn_in_the_middle_and_a_missing_one_is_none() -> None:
    pen = glyphs.Pen(FONT.read_bytes(), 1)
    bar = pen.draw("|")
    assert bar is not None
    assert bar.shape == (32, 32, 1)
    rows, columns, _ = np.nonzero(bar < 255)
    assert (rows.min(), rows.max()) == (2, 29)
    assert abs(columns.min() + columns.max() - 31) <= 1
    assert pen.draw("\U000e1234") is None
    assert pen.draw(" ") is None


class Letters(glyphs.DrawnCorpus):
    """Two letters of a font that matplotlib brings."""

    name, licence, attribution, size, packages = "letters", "none", "none", "few", ()
    files = property(lambda self: {"font.ttf": FONT.read_bytes()})
    content = property(lambda self: self.digest())

    def rows(self) -> Iterator[Row]:
        pen = glyphs.Pen(self.files["font.ttf"], 1)
        yield from ({"image": pen.draw(letter), "text": letter} for letter in "ab")


def test_drawn_pictures_are_checked_by_the_files_of_their_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [row["text"] for row in Letters().records] == ["a", "b"]
    monkeypatch.setattr(Letters, "content", "0" * 64)
    with pytest.raises(DataError, match="not the ones expected"):
        _ = Letters().records


def test_a_picture_is_rotated_and_scaled_about_its_middle() -> None:
    picture = np.arange(0, 250, 10, np.int64).reshape(5, 5, 1)
    assert np.array_equal(affine(picture, 0.0, 1.0), picture)
    assert np.array_equal(affine(picture, np.pi / 2, 1.0)[..., 0], np.rot90(picture[..., 0]))
    half = affine(picture, 0.0, 2.0)[..., 0]
    assert half[2].tolist() == [110, 115, 120, 125, 130]
    assert half[:, 2].tolist() == [70, 95, 120, 145, 170]
    small = affine(picture, 0.0, 0.5)[..., 0]
    assert small[1:4, 1:4].tolist() == picture[::2, ::2, 0].tolist()
    rng = np.random.default_rng(0)
    found = [warped(picture, 20.0, 0.2, rng) for _ in range(3)]
    assert not np.array_equal(found[0], found[1])
    assert all(each.dtype == picture.dtype and each.max() <= 240 for each in found)
