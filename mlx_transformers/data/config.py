"""The `[data]` table of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.errors import unknown
from ..recipe.config import Config
from ..recipe.slot import Slot
from .batches.packed import Packed
from .corpora.generated import GeneratedCorpus
from .corpora.table import CORPORA
from .kinds import BatchKind
from .tokenizers.tokenizer import TokenizerKind


class Data(Config):
    """The text that a model is trained on, its tokenizer and its batches.

    The text comes from one place: `path` or `dataset` if one is given, else `corpus`. So
    `--set data.path=FILE` trains any recipe on another text.
    """

    corpus: str | None = None
    """A built-in corpus; `mlxt data list` lists them. Without a download: "stdlib" (text) and
    "docstrings" (records). Used if neither `path` nor `dataset` is given."""

    settings: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """Settings of a generated corpus, such as `n_examples`; docs/synthetic.md lists them."""

    path: str | list[str] | None = None
    """A file, a folder, a glob, or a list of them, relative to the working folder. Rows (a document
    or a record each) come from `.jsonl`, `.ndjson`, `.json` and `.parquet`, records also from
    `.tsv` and `.csv`; `.bin` files hold tokens as nanoGPT and llm.c write them; any other file is
    UTF-8 text and one document. Files may be compressed (`.gz`, `.bz2`, `.xz`, `.zst`). In a folder
    or glob with files named train and valid (val, dev) or test, the names are the splits, and test
    is never read."""

    valid_path: str | list[str] | None = None
    """Files for validation, like `path`; `path` is then used for training alone."""

    dataset: str | None = None
    """A Hugging Face data set, read as a stream (its "train" split). Needs the `datasets`
    package and the network."""

    dataset_config: str | None = None
    """The configuration of `dataset`, if it has several."""

    text_key: str = "text"
    """Key of the text in a row of a file or of `dataset`."""

    bad_rows: Literal["stop", "skip"] = "stop"
    """Treatment of unusable rows (not JSON, a field missing or null): "stop" is an error that names
    the row, "skip" leaves it out and counts it."""

    tokenizer: Annotated[TokenizerKind, Slot("tokenizer")]
    """How text becomes token ids."""

    batch: Annotated[BatchKind, Slot("batch")] = Packed()
    """How rows are made of the text: packed, masked, noisy, pairs, labelled."""

    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part held out for validation."""

    split: Literal["documents", "tail"] | None = None
    """How validation is held out. "documents": by a hash of each document, so that equal documents
    land on the same side and new ones move no old one. "tail": the end of the text, as in nanoGPT.
    Unset: "tail" for a single text or token file, "documents" for anything else."""

    mask_documents: bool = False
    """Restrict attention to the document of each token (batches carry document ids)."""

    shuffle: bool = True
    """Shuffle the rows of each epoch (seeded by `train.seed`)."""

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        for name, path in (("path", self.path), ("valid_path", self.valid_path)):
            names = [path] if isinstance(path, str) else path
            if names is not None and (not names or not all(each.strip() for each in names)):
                raise ValueError(
                    f"data.{name} is empty: name a file, a folder or a glob, or remove the key "
                    f"(unset = ['data.{name}'])."
                )
        if self.path is not None and self.dataset is not None:
            raise ValueError("data.path and data.dataset are two sources: give one of them.")
        if self.path is None and self.dataset is None:
            if self.corpus is None:
                raise ValueError("No text: give data.corpus, data.path or data.dataset.")
            if self.corpus not in CORPORA:
                raise ValueError(unknown("corpus", self.corpus, CORPORA))
            corpus = CORPORA[self.corpus]
            if issubclass(corpus, GeneratedCorpus):
                corpus.check(self.settings)
            elif self.settings:
                raise ValueError(
                    f"data.settings are those of a generated corpus, and '{self.corpus}' is none: "
                    "remove them (unset = ['data.settings'])."
                )
        if self.valid_path is not None and self.path is None:
            raise ValueError("data.valid_path goes with data.path, which is not given.")
        return self
