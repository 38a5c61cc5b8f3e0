"""The cache key of a prepared set: everything that decides its content, and its folder."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..core.cache import cache_folder
from ..core.errors import DataError, Notice
from ..core.paths import expanded, shown
from .checked import Checked
from .config import Data
from .file_names import Found
from .files import Files
from .pieces import Piece
from .prepared import FORMAT
from .shards import Split
from .source import Source
from .sources import open_source, open_valid_source
from .split import Method, routed

LONGEST_NAME = 100
"""Bytes of a source's name in the name of its folder."""


class DataKey:
    """Everything that decides the content of a prepared set: sources, split, tokenizer, batch kind.

    Attributes:
        mixed: the keys of the texts beside it that its tokenizer is trained on, too.

    Raises:
        DataError: the text is missing.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.source = open_source(data)
        self.valid = open_valid_source(data, self.source)
        if self.valid is not None and self.valid.ready_tokens != self.source.ready_tokens:
            raise DataError(
                f"The training data ({self.source}) and the validation data ({self.valid}) have "
                "to be of one kind, and one is .bin tokens, the other text. Give both as tokens "
                "or both as text, or only the training file (data.path=FILE) to hold out a part "
                "of it."
            )
        _check_regular(data.tokenizer.file())
        mixture = data.mixture if data.tokenizer.is_trained else []
        self.mixed = [DataKey(data.of(text)) for text in mixture]
        self.checked = [
            Checked(source, data.batch.accept, data.bad_rows == "skip") for source in self.sources
        ]
        if isinstance(self.source, Files) and (notice := split_notice(self.source.found, data)):
            warnings.warn(notice, Notice, stacklevel=2)

    @property
    def sources(self) -> list[Source]:
        """The text, and the separate source for validation if there is one."""
        return [self.source] if self.valid is None else [self.source, self.valid]

    @property
    def ready_tokens(self) -> bool:
        """Whether the text is tokenized already."""
        return self.source.ready_tokens

    @property
    def method(self) -> Method:
        """How validation is held out: `data.split`, or what suits the source."""
        return self.data.split or self.source.usual_split

    def pieces(self) -> Iterator[tuple[Split, Piece]]:
        """Yield every piece with its split; rows left out are counted in `checked`."""
        source, *valid = self.checked
        return routed(source, valid[0] if valid else None, self.data.valid_fraction, self.method)

    @property
    def n_skipped(self) -> int:
        """Rows left out in the last pass over `pieces`."""
        return sum(source.n_skipped for source in self.checked)

    def settings(self) -> dict[str, object]:
        """Return the settings of the recipe that count: equal settings share a folder."""
        data = self.data
        key: dict[str, object] = {
            "format": FORMAT,
            "corpus": data.corpus if data.path is None and data.dataset is None else None,
            "path": _absolute(data.path),
            "valid_path": _absolute(data.valid_path),
            "dataset": [data.dataset, data.dataset_config],
            "text_key": data.text_key,
            "split": self.method,
            "valid_fraction": data.valid_fraction,
            "tokenizer": data.tokenizer.model_dump(),
        }
        if data.settings:
            key["settings"] = data.settings
        if self.mixed:
            key["mixed"] = [text.settings() for text in self.mixed]
        if data.bad_rows == "skip":
            key["bad_rows"] = "skip"
        batch = data.batch.cache_key()
        return key | {"batch": batch} if batch else key

    def content_settings(self) -> dict[str, object]:
        """Return `settings` without the places of files, so that moved files are still the same."""
        places = ("path", "valid_path", "tokenizer", "mixed")
        return {name: value for name, value in self.settings().items() if name not in places}

    @property
    def folder(self) -> Path:
        """The folder of the finished set."""
        return (
            cache_folder() / "data" / f"{_short(self.source.name)}-{hashed(self.settings())[:12]}"
        )

    def identity(self) -> list[object]:
        """Return a value that changes whenever the text or the tokenizer's file may have."""
        file = self.data.tokenizer.file()
        stat = file.stat() if file is not None and file.exists() else None
        tokenizer_file = None if stat is None else [stat.st_size, stat.st_mtime_ns]
        # Through JSON, to compare equal with a stored one.
        identity: list[object] = json.loads(
            json.dumps([[source.identity() for source in self.sources], tokenizer_file])
        )
        return identity + [text.identity() for text in self.mixed]

    def digest(self) -> str:
        """Return a hash of the content that `identity` stands for."""
        tokenizer_hash = None
        if self.data.tokenizer.file() is not None:
            tokenizer = self.data.tokenizer.build([])
            tokenizer_hash = tokenizer.fingerprint()
            if tokenizer.prefix and self.data.batch.covers_text:
                tokenizer_hash = hashed([tokenizer_hash, list(tokenizer.prefix)])
        mixed = [text.digest() for text in self.mixed]
        return hashed([[source.digest() for source in self.sources], tokenizer_hash, *mixed])

    def check(self) -> None:
        """Refuse text that can't be prepared, before any work is done.

        Raises:
            DataError: there is no text, or token ids come without the tokenizer that made them.
        """
        tokenizer = self.data.tokenizer
        if self.ready_tokens and tokenizer.is_trained:
            raise DataError(
                f"{self.source} holds tokens, so data.tokenizer must be the one that made them "
                f"(tokenizer_json or sentencepiece with a path, or byte); "
                f"'{tokenizer.kind}' would have to be trained on text. To train on a text "
                "beside them, name its file: data.path=FILE."
            )
        for source in self.checked:
            if next(source.pieces(), None) is None:
                raise DataError(f"There is no text in {source.source}: {self._why_empty(source)}")

    def _why_empty(self, source: Checked) -> str:
        if not source.n_skipped:
            return "it is empty."
        return f"all {source.n_skipped:,} rows were left out. The first: {source.first_skipped}"


def split_notice(files: Found, data: Data) -> str:
    """Return the sentence that says which files train, validate, and are never read; empty if the
    names of files tell no splits."""
    if not files.valid and not files.test:
        return ""
    parts = [f"{_listed(files.train)} trains"]
    if files.valid:
        unused = data.valid_path is not None
        parts.append(f"{_listed(files.valid)} {'is left out' if unused else 'validates'}")
    if files.test:
        parts.append(f"{_listed(files.test)} is never read")
    return f"The names of the files are their splits: {', '.join(parts)}."


def _listed(files: list[Path]) -> str:
    first, *rest = files
    return shown(first.name) + (f" (and {len(rest)} more)" if rest else "")


def _short(name: str) -> str:
    """Shorten a name for a folder: file systems take 255 bytes, and suffixes are added."""
    return shown(name).replace("/", "_").encode()[:LONGEST_NAME].decode(errors="ignore")


def _check_regular(file: Path | None) -> None:
    if file is not None and file.exists() and not (file.is_file() or file.is_dir()):
        raise DataError(f"data.tokenizer: {file} is a pipe or device, not a file.")


def hashed(value: object) -> str:
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _absolute(path: str | list[str] | None) -> list[str]:
    paths = [] if path is None else [path] if isinstance(path, str) else path
    return [str(expanded(one).absolute()) for one in paths]
