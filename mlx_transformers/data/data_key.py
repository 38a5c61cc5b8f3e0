"""The cache key of a prepared set: everything that decides its content, and its folder."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..core.cache import cache_folder
from ..core.errors import DataError
from .config import Data
from .pieces import Piece
from .prepared import FORMAT
from .shards import Split
from .source import Source
from .sources import open_source, open_valid_source
from .split import Method, routed


class DataKey:
    """Everything that decides the content of a prepared set: sources, split, tokenizer, batch kind.

    Raises:
        DataError: the text is missing.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.source = open_source(data)
        self.valid = open_valid_source(data)
        if self.valid is not None and self.valid.ready_tokens != self.source.ready_tokens:
            raise DataError("data.path and data.valid_path: one holds .bin tokens, the other text.")

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
        """Yield every piece with its split."""
        data = self.data
        return routed(self.source, self.valid, data.batch.accept, data.valid_fraction, self.method)

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
        batch = data.batch.cache_key()
        return key | {"batch": batch} if batch else key

    def content_settings(self) -> dict[str, object]:
        """Return `settings` without the places of files, so that moved files are still the same."""
        places = ("path", "valid_path", "tokenizer")
        return {name: value for name, value in self.settings().items() if name not in places}

    @property
    def folder(self) -> Path:
        """The folder of the finished set."""
        return cache_folder() / "data" / f"{self.source.name}-{hashed(self.settings())[:12]}"

    def identity(self) -> list[object]:
        """Return a value that changes whenever the text or the tokenizer's file may have."""
        file = self.data.tokenizer.file()
        stat = file.stat() if file is not None and file.exists() else None
        own = None if stat is None else [stat.st_size, stat.st_mtime_ns]
        # Through JSON, to compare equal with a stored one.
        found: list[object] = json.loads(
            json.dumps([[source.identity() for source in self.sources], own])
        )
        return found

    def digest(self) -> str:
        """Return a hash of the content that `identity` stands for."""
        own = None
        if self.data.tokenizer.file() is not None:
            own = self.data.tokenizer.build([]).fingerprint()
        return hashed([[source.digest() for source in self.sources], own])

    def check(self) -> None:
        """Refuse text that can't be prepared, before any work is done.

        Raises:
            DataError: there is no text, or token ids come without the tokenizer that made them.
        """
        for source in self.sources:
            first = next(source.pieces(), None)
            if first is None:
                raise DataError(f"There is no text in {source}: it is empty.")
            self.data.batch.accept(first)
        tokenizer = self.data.tokenizer
        if self.ready_tokens and tokenizer.trained_on != "nothing" and tokenizer.file() is None:
            raise DataError(
                f"{self.source} holds tokens, so data.tokenizer must be the one that made them "
                f"(tokenizer_json or sentencepiece with a path, or byte); "
                f"'{tokenizer.kind}' would have to be trained on text."
            )


def hashed(value: object) -> str:
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _absolute(path: str | list[str] | None) -> list[str]:
    paths = [] if path is None else [path] if isinstance(path, str) else path
    return [str(Path(one).expanduser().absolute()) for one in paths]
