"""Rows of pictures, and of texts with and without one."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError, Notice

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
