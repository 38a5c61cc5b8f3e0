"""Names from outside never lead out of a folder; a folder may vanish while it is walked."""

import shutil
from pathlib import Path

import pytest

from mlx_transformers.core.errors import RunError
from mlx_transformers.core.paths import files_below, inside, plain_name, remove_tree


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "x\udcff", "\x1b[2J"])
def test_a_name_that_is_no_plain_one_is_refused_and_printed_harmlessly(name: str) -> None:
    with pytest.raises(RunError, match="can't name a run") as caught:
        plain_name(name, "a run", RunError)
    assert str(caught.value).isprintable()


def test_a_plain_name_passes() -> None:
    assert plain_name("größer-2", "a run") == "größer-2"


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "link/secret", "", "a\0b", "loop"]
)
def test_a_name_in_a_file_stays_inside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(RunError, match="outside of it"):
        inside(folder, name, RunError)
    assert inside(folder, "sub/file.json") == folder / "sub/file.json"


def test_a_folder_is_deleted_while_another_process_deletes_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    for name in ("b", "c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")
    delete = shutil.rmtree
    raced: list[Path] = []

    def race(path: Path) -> None:
        if not raced:
            raced.append(path)
            delete(path / "b")
            raise FileNotFoundError(path / "b")
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", race)
    remove_tree(folder)
    assert not folder.exists()
    remove_tree(folder)


def test_sizes_are_those_of_all_files_but_vanished_ones(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"123")
    (tmp_path / "a" / "b" / "two").write_bytes(b"45")
    found = files_below(tmp_path)
    assert sum(file.st_size for file in found) == 5
    walk = files_below(tmp_path)
    next(walk)
    shutil.rmtree(tmp_path / "a")
    assert not list(walk)
    assert not list(files_below(tmp_path / "a"))


def test_a_link_counts_as_itself_or_as_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "weights").write_bytes(b"x" * 999)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, target in (
        ("linked", "../target/weights"),
        ("below", "../target"),
        ("gone", "nowhere"),
        ("loop", "loop"),
    ):
        (folder / name).symlink_to(target)
    assert [file.st_size for file in files_below(folder, follow_links=True)] == [999]
    own = [file.st_size for file in files_below(folder)]
    assert sorted(own) == [len("loop"), len("nowhere"), len("../target/weights")]
