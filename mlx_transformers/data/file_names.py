"""Finds the files that `data.path` names: files, folders, globs, and the splits their names
tell."""

import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, Notice
from ..core.names import nearest
from ..core.paths import expanded, shown
from .shards import Split

CODE = frozenset(
    f".{name}"
    for name in (
        *("py", "pyi", "js", "ts", "c", "h", "cc", "cpp", "hpp", "m", "mm", "rs", "go", "java"),
        *("swift", "kt", "rb", "sh", "css", "sql", "toml", "yaml", "yml"),
    )
)
PROSE = frozenset({".txt", ".text", ".md", ".rst", ".tex", ".csv", ".tsv", ".html", ".xml"})
ROWS = frozenset({".jsonl", ".ndjson", ".parquet"})
"""Files of rows. A `.json` file may be one too, but in a folder of text it is a configuration."""
RAW = frozenset({".raw", ".tokens"})
"""Text of data sets that name it by its processing (WikiText); read if its name tells a split."""
COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})

ABOUT = frozenset(
    {"readme", "license", "licence", "notice", "citation", "changelog", "dataset_infos"}
)
"""Files that describe a data set of rows or tokens, and are no part of it."""

WORDS: dict[str, Split | None] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(
        ("valid", "val", "dev", "validation", "validate", "devel", "eval", "devset"), "valid"
    ),
    **dict.fromkeys(("test", "testing", "tests", "testset"), None),
}
"""The split that a word in the name of a file or folder tells; None for a test split, which is
never read."""

CURE = "Name another with --set data.path=FILE; paths count from the folder you are in."

SIGNS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """The files of a path by split.

    Attributes:
        train: files to train on, or to split if `valid` is empty.
        valid: files for validation, by their names.
        test: files of a test split, which are never read.
    """

    train: list[Path]
    valid: list[Path]
    test: list[Path]


def find_files(path: str | list[str]) -> Found:
    """Return the files of a path, folder or glob, or of a list of them, by split.

    The splits that names tell (`train.jsonl`, `dev/a.txt`) hold within a folder or glob as
    `by_split` says; a file that is named itself is always used.

    Raises:
        DataError: there are no such files.
    """
    train: list[Path] = []
    valid: list[Path] = []
    test: list[Path] = []
    for pattern in [path] if isinstance(path, str) else path:
        root, files = expand(pattern)
        splits = by_split(files, root) if root is not None else Found(files, [], [])
        train += splits.train
        valid += splits.valid
        test += splits.test
    return Found(train, valid, test)


def suffix_of(path: Path) -> str:
    """Return the suffix that tells the format, in lower case, without that of a compression."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def expand(pattern: str) -> tuple[Path | None, list[Path]]:
    """Return the folder that a pattern searches (None for a file) and its files, sorted.

    Raises:
        DataError: there are none, with the nearest name in that folder; or it is a pipe.
    """
    if not pattern:
        raise DataError("data.path is empty: name a file, a folder or a glob.")
    path = expanded(pattern).absolute()
    if path.is_file():
        return None, [path]
    if path.is_dir():
        return path, _of_folder(path)
    if path.exists():
        raise DataError(
            f"{shown(str(path))} is a pipe or device. A text is read more than once: write it "
            "to a file first."
        )
    if SIGNS.search(pattern):
        root, files = _matching(path)
        if not files:
            where = shown(str(root))
            raise DataError(f"No file matches data.path '{pattern}' (looked under {where}).")
        return root, files
    raise DataError(_not_found(pattern, path))


def by_split(files: Sequence[Path], root: Path) -> Found:
    """Sort files by the split that their names tell.

    Many names have such a word by chance (`tests/notes.md`), so it counts only if a file names the
    training split, all files name one, or a file is called by the word alone (`test.txt`).
    """
    word_of = {file: _split_word(file.relative_to(root)) for file in files}
    training = any(word and WORDS[word] == "train" for word in word_of.values())
    alone = any(word == file.name.split(".")[0].lower() for file, word in word_of.items())
    if not (training or alone or all(word_of.values())):
        return Found(list(files), [], [])
    # Files that name no split go with the training files.
    split_of = {file: WORDS[word] if word else "train" for file, word in word_of.items()}
    train, valid, test = (
        [file for file in files if split_of[file] == split] for split in ("train", "valid", None)
    )
    return Found(train, valid, test)


def _split_word(path: Path) -> str | None:
    """Return the word of `WORDS` in a file's name, or that a folder on the way is called."""
    if path.suffix.lower() in CODE:
        return None
    stem = re.split(r"[^a-z]+", path.name.lower())
    return next((word for word in (*map(str.lower, path.parts[:-1]), *stem) if word in WORDS), None)


def _of_folder(folder: Path) -> list[Path]:
    files = list(_walk(folder))
    texts = _texts(files)
    tokens = sorted(file for file in files if suffix_of(file) == ".bin")
    ready = bool(tokens) and (not texts or _has(tokens, folder, "train"))
    chosen, others = (tokens, texts) if ready else (texts, tokens)
    if not chosen:
        raise DataError(
            f"The folder {shown(str(folder))} holds no text file (.txt, .md, .py, .jsonl …)."
        )
    if _has(chosen, folder, "train") and not _has(chosen, folder, "valid"):
        # a validation split of the other kind isn't passed over: `DataKey` refuses it
        chosen = chosen + [file for file in others if _has([file], folder, "valid")]
    return sorted(chosen)


def _texts(files: Sequence[Path]) -> list[Path]:
    """Return the files of a folder that are text or rows."""
    texts = [file for file in files if suffix_of(file) in PROSE | CODE | ROWS]
    texts = texts or [file for file in files if suffix_of(file) == ".json"]
    raw = [file for file in files if suffix_of(file) in RAW and _split_word(Path(file.name))]
    texts += raw
    if raw or any(suffix_of(file) in ROWS | {".json"} for file in texts):
        texts = [file for file in texts if file.name.split(".")[0].lower() not in ABOUT]
    return texts


def _has(files: Sequence[Path], folder: Path, split: Split) -> bool:
    """Whether the name of one of `files` tells this split."""
    words = (_split_word(file.relative_to(folder)) for file in files)
    return any(word and WORDS[word] == split for word in words)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder but hidden ones, each once, through links too. Links
    that lead nowhere are left out with a notice.

    Raises:
        DataError: a folder can't be read.
    """
    seen: set[tuple[int, int]] = set()
    lost: list[str] = []

    def fresh(path: str) -> os.stat_result | None:
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere, or to itself
            lost.append(path)
            return None
        if (key := (status.st_dev, status.st_ino)) in seen:
            return None
        seen.add(key)
        return status

    def unreadable(error: OSError) -> None:
        raise DataError(f"{shown(str(error.filename))} can't be read: {error.strerror}.")

    fresh(str(folder))
    for folder_path, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        folders[:] = [
            name
            for name in sorted(folders)
            if not _hidden(name) and fresh(os.path.join(folder_path, name)) is not None
        ]
        for name in sorted(names):
            if _hidden(name):
                continue
            status = fresh(os.path.join(folder_path, name))
            if status is not None and stat.S_ISREG(status.st_mode):
                yield Path(folder_path, name)
    if lost:
        found = "1 link leads" if len(lost) == 1 else f"{len(lost)} links lead"
        notice = f"In {shown(str(folder))} {found} nowhere: {shown(lost[0])}"
        others = " and others" if lost[1:] else ""
        warnings.warn(f"{notice}{others}. Left out.", Notice, stacklevel=2)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__pycache__"))


def _matching(path: Path) -> tuple[Path, list[Path]]:
    """Expand a glob part by part; a part that exists as it is written stands for itself, so that
    brackets may be in a name."""
    parts = path.parts[1:]
    root = Path(path.anchor)
    while parts and (root / parts[0]).exists():
        root, parts = root / parts[0], parts[1:]
    paths = [root]
    for part in parts:
        inner: list[Path] = []
        for folder in paths:
            if part == "**":
                inner += [folder, *(p for p in sorted(folder.rglob("*")) if p.is_dir())]
            elif (folder / part).exists():
                inner.append(folder / part)
            elif folder.is_dir() and SIGNS.search(part):
                inner += sorted(folder.glob(part))
        paths = inner
    files = list(dict.fromkeys(file for file in paths if file.is_file()))
    return root, sorted(files)


def _not_found(pattern: str, path: Path) -> str:
    folder = path.parent
    if path.is_symlink():
        target = shown(os.readlink(path))
        return f"data.path '{pattern}': a link to '{target}', which isn't there. {CURE}"
    if not folder.is_dir():
        return f"data.path '{pattern}': there is no folder {shown(str(folder))}. {CURE}"
    match = nearest(path.name, (p.name for p in folder.iterdir()))
    hint = f" Did you mean '{match}'?" if match else ""
    return f"data.path '{pattern}': there is no such file in {shown(str(folder))}.{hint} {CURE}"
