"""Names from outside never lead out of a folder."""

from pathlib import Path

import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.core.paths import inside, plain_name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "x\udcff", "\x1b[2J"])
def test_a_name_that_is_no_plain_one_is_refused_and_printed_harmlessly(name: str) -> None:
    with pytest.raises(RunError, match="can't name a run") as caught:
        plain_name(name, "a run", RunError)
    assert str(caught.value).isprintable()


def test_a_plain_name_passes() -> None:
    assert plain_name("größer-2", "a run") == "größer-2"


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "link/secret", "", "a\0b"]
)
def test_a_name_in_a_file_stays_inside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(RunError, match="outside of it"):
        inside(folder, name, RunError)
    assert inside(folder, "sub/file.json") == folder / "sub/file.json"
