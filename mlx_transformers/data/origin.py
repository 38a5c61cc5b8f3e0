"""Where a prepared set comes from: its text, its tokenizer's table, and its place in the cache."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..core.cache import cache_folder
from ..core.errors import DataError
from .config import Data
from .prepared import FORMAT
from .source import Source
from .sources import open_source, open_valid_source
from .split import method


class Origin:
    """All that decides the content of a prepared set.

    Raises:
        DataError: the text can't be had.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.source = open_source(data)
        self.valid = open_valid_source(data)
        if self.valid is not None and self.valid.ready_tokens != self.source.ready_tokens:
            raise DataError("data.path and data.valid_path: one holds .bin tokens, the other text.")

    @property
    def sources(self) -> list[Source]:
        """The text, and the separate one for validation if there is one."""
        return [self.source] if self.valid is None else [self.source, self.valid]

    @property
    def ready_tokens(self) -> bool:
        """Whether the text is tokens already."""
        return self.source.ready_tokens

    def key(self) -> dict[str, Any]:
        """What of the recipe counts: the same key, the same folder."""
        data = self.data
        key = {
            "format": FORMAT,
            "corpus": data.corpus if data.path is None and data.dataset is None else None,
            "path": _absolute(data.path),
            "valid_path": _absolute(data.valid_path),
            "dataset": [data.dataset, data.dataset_config],
            "text_key": data.text_key,
            "split": method(data, self.source),
            "valid_fraction": data.valid_fraction,
            "tokenizer": data.tokenizer.model_dump(),
        }
        stored = data.batch.stored()
        return key | {"batch": stored} if stored else key

    def division(self) -> dict[str, Any]:
        """What of the recipe counts beside text and tokenizer: not where their files are."""
        places = ("path", "valid_path", "tokenizer")
        return {name: value for name, value in self.key().items() if name not in places}

    @property
    def folder(self) -> Path:
        """The place of the finished set."""
        return cache_folder() / "data" / f"{self.source.name}-{hashed(self.key())[:12]}"

    def identity(self) -> list[Any]:
        """What changes whenever the text, or the tokenizer's own file, may have changed."""
        file = self._tokenizer_file()
        stat = file.stat() if file is not None and file.exists() else None
        own = None if stat is None else [stat.st_size, stat.st_mtime_ns]
        # Through JSON, so that it can be compared with one that was stored.
        return json.loads(json.dumps([[source.identity() for source in self.sources], own]))

    def digest(self) -> str:
        """A hash of the content that `identity` stands for."""
        own = None
        if self._tokenizer_file() is not None:
            own = self.data.tokenizer.build([]).fingerprint()
        return hashed([[source.digest() for source in self.sources], own])

    def _tokenizer_file(self) -> Path | None:
        path = getattr(self.data.tokenizer, "path", None)
        return None if path is None else Path(path).expanduser()

    def check(self) -> None:
        """Refuse what can't become a set, before any work is done.

        Raises:
            DataError: no text; or tokens without the tokenizer that made them.
        """
        for source in self.sources:
            first = next(source.pieces(), None)
            if first is None:
                raise DataError(f"There is no text in {source}: it is empty.")
            self.data.batch.read(first)
        reads = getattr(self.data.tokenizer, "reads", "nothing")
        if self.ready_tokens and reads != "nothing" and self._tokenizer_file() is None:
            raise DataError(
                f"{self.source} holds tokens, so data.tokenizer must be the one that made them "
                f"(tokenizer_json or sentencepiece with a path, or byte); "
                f"'{self.data.tokenizer.kind}' would have to be made from text."
            )


def hashed(value: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _absolute(path: str | list[str] | None) -> list[str]:
    paths = [] if path is None else [path] if isinstance(path, str) else path
    return [str(Path(one).expanduser().absolute()) for one in paths]
