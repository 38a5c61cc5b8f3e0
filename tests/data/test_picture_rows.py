"""Rows of pictures, and of texts with and without one."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError, Notice
from mlx_transformers.data.pictures.read import write_picture

from . import records

MIXED = {"kind": "mixed_modal", "size": [1, 2], "channels": 1, "patches": 4, "n_codes": 2}


def test_a_text_alone_has_the_room_of_a_picture(tmp_path: Path) -> None:
    rows = [
        {"image": None, "text": "abcdefghi"},
        {"image": "0 255", "text": "abc"},
        {"image": "9 9", "text": "abcde"},
    ]
    batch = MIXED | {"picture_first": 0.0}
    made = records.prepared(records.write(tmp_path, rows), batch, valid_fraction=0.0)
    with pytest.warns(Notice, match=r"1 of 3 texts .* raised by 1\."):
        train = records.train(made, 10, shuffle=False)
    tokens = train.batch(np.arange(3))["tokens"]
    start, end, image = (made[0].tokenizer.control(role) for role in ("start", "end", "image"))
    shown = [f"<{start}>abcdefghi<{end}>", f"<{start}>abc<{image}>", f"<{start}>abcd<{image}>"]
    for row, wanted in zip(tokens, shown, strict=True):
        assert records.text(row).startswith(wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records.train(made, 11, shuffle=False)


def test_a_width_that_no_picture_has_is_refused(tmp_path: Path) -> None:
    rows = [{"text": "1 2 3 4 5 6", "label": n % 2} for n in range(4)]
    batch = {"kind": "pictures", "width": 4, "shift": 1}
    made = records.prepared(records.write(tmp_path, rows), batch, valid_fraction=0.0)
    with pytest.raises(DataError, match=r"data\.batch\.width = 4 is no row of a picture"):
        records.train(made, 6)


CAPTIONS = {"kind": "captions", "size": [1, 2], "channels": 1, "patches": 4}


def test_captions_that_are_cut_are_counted_and_rows_without_room_refused(tmp_path: Path) -> None:
    rows = [{"image": "0 255", "text": "abcdef"}, {"image": None, "text": "abcdef"}]
    made = records.prepared(records.write(tmp_path, rows), CAPTIONS, valid_fraction=0.0)
    with pytest.warns(Notice, match=r"1 of 2 texts .* raised by 2\."):
        tokens = records.train(made, 8, shuffle=False).batch(np.arange(2))["tokens"]
    image = made[0].tokenizer.control("image")
    assert records.text(tokens[0]) == f"<{image}>" * 4 + "abcde"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records.train(made, 10)
    rows = rows[:1] * 2
    made = records.prepared(records.write(tmp_path, rows), CAPTIONS, valid_fraction=0.0)
    with pytest.raises(DataError, match=r"seq_len = 3 has no room .* 4 tokens .* to 10\."):
        records.train(made, 3)


@pytest.mark.parametrize(
    "image",
    [
        "1 2 3 4 5 6",
        [1, 2, 3, 4, 5, 6],
        [[1, 2, 3], [4, 5, 6]],
        [[[1], [2], [3]], [[4], [5], [6]]],
        "3 cats 2.png",
    ],
    ids=["text", "list", "rows", "channels", "path"],
)
def test_numbers_are_text_or_lists_and_a_path_may_begin_with_a_digit(
    image: object, tmp_path: Path
) -> None:
    batch = {"kind": "images", "size": [2, 3], "channels": 1}
    wanted = np.arange(1, 7, dtype=np.uint8).reshape(2, 3, 1)
    write_picture(tmp_path / "3 cats 2.png", wanted)
    path = records.write(tmp_path, [{"image": image}])
    made = records.prepared(path, batch, valid_fraction=0.0)
    assert np.array_equal(records.train(made, 6).batch(np.arange(1))["pixels"][0], wanted)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ([1, 2, 3], "3 numbers, .* ask for 2 x 3 x 1"),
        ([[1, 2], [3, 4], [5, 6]], "has 3 x 2 numbers"),
        ([1, 2, 3, 4, 5, 256], "list .* is no picture"),
        ([[1, 2, 3], [4, 5]], "in rows of one length"),
        (["a.png", "b.png"], "Of several pictures each has a record of its own"),
        ("0.5 0.5", r"'0\.5' is no pixel"),
        ([], "list .* is no picture"),
        (3, "holds no picture but 3"),
    ],
)
def test_numbers_that_make_no_picture_are_named(image: object, told: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({"image": image}) + "\n")
    with pytest.raises(DataError, match=rf"records\.jsonl:1: .*{told}"):
        records.prepared(path, {"kind": "images", "size": [2, 3], "channels": 1})


def test_picture_files_have_classes_too(tmp_path: Path) -> None:
    write_picture(tmp_path / "dark.png", np.zeros((4, 6, 3), np.uint8))
    write_picture(tmp_path / "light.png", np.full((4, 6, 3), 255, np.uint8))
    rows = [{"image": f"{name}.png", "label": name} for name in ("light", "dark")]
    batch = {"kind": "pictures", "pixels_key": "image", "size": [2, 2], "channels": 3, "shift": 1}
    made = records.prepared(records.write(tmp_path, rows), batch, valid_fraction=0.0)
    train = records.train(made, 12, shuffle=False).batch(np.arange(2))
    assert train["pixels"].tolist() == [[255] * 12, [0] * 12]
    assert train["label"].tolist() == [1, 0]
    for changes, told in [({"width": 5}, "contradicts size"), ({"channels": 2}, "have 1 or 3")]:
        with pytest.raises(ValueError, match=told):
            records.table(tmp_path, batch | changes)
