"""The keys of a recipe that name a text: of `[data]`, and of each text that is mixed in."""

from typing import ClassVar

from pydantic import Field, model_validator

from ..core.errors import unknown
from ..recipe.config import Config
from .corpora.configured import Configured
from .corpora.table import CORPORA


class TextSource(Config):
    """A text: `path` or `dataset` if one is given, else `corpus`."""

    table: ClassVar[str] = "data"
    """The table as messages name it."""

    corpus: str | None = None
    """A built-in corpus; `mlxt data list` lists them. Without a download: "stdlib" (text) and
    "docstrings" (records). Used if neither `path` nor `dataset` is given."""

    settings: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """Settings of `digits` or a generated corpus, such as `n_examples`; docs/synthetic.md lists
    them."""

    path: str | list[str] | None = None
    """A file, a folder, a glob, or a list of them, relative to the working folder. Rows (a document
    or a record each) come from `.jsonl`, `.ndjson`, `.json` and `.parquet`, records also from
    `.tsv` and `.csv`; `.bin` files hold tokens as nanoGPT and llm.c write them; any other file is
    UTF-8 text and one document. All but `.bin` may be compressed (`.gz`, `.bz2`, `.xz`, `.zst`). In
    a folder or glob with files named train, valid (val, dev) or test, the names are the splits,
    and test is never read."""

    valid_path: str | list[str] | None = None
    """Files for validation, like `path`; `path` is then used for training alone."""

    dataset: str | None = None
    """A Hugging Face data set, read as a stream (its "train" split). Needs the `datasets`
    package and the network."""

    dataset_config: str | None = None
    """The configuration of `dataset`, if it has several."""

    text_key: str = "text"
    """Key of the text in a row of a file or of `dataset`."""

    @model_validator(mode="after")
    def _one_source(self) -> "TextSource":
        table = self.table
        for name, path in (("path", self.path), ("valid_path", self.valid_path)):
            names = [path] if isinstance(path, str) else path
            if names is not None and (not names or not all(each.strip() for each in names)):
                raise ValueError(
                    f"{table}.{name} is empty: name a file, a folder or a glob, or remove the key "
                    f"(unset = ['{table}.{name}'])."
                )
        if self.path is not None and self.dataset is not None:
            raise ValueError(f"{table}.path and {table}.dataset are two sources: give one of them.")
        if self.path is None and self.dataset is None:
            self._check_corpus()
        if self.valid_path is not None and self.path is None:
            raise ValueError(f"{table}.valid_path goes with {table}.path, which is not given.")
        return self

    def _check_corpus(self) -> None:
        if self.corpus is None:
            table = self.table
            raise ValueError(f"No text: give {table}.corpus, {table}.path or {table}.dataset.")
        if self.corpus not in CORPORA:
            raise ValueError(unknown("corpus", self.corpus, CORPORA))
        corpus = CORPORA[self.corpus]
        if issubclass(corpus, Configured):
            corpus.check(self.settings)
        elif self.settings:
            raise ValueError(
                f"{self.table}.settings: the corpus '{self.corpus}' takes none; remove them "
                f"(unset = ['{self.table}.settings'])."
            )
