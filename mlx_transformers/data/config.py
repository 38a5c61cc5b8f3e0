"""The `[data]` table of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.errors import unknown
from ..recipe.config import Config
from ..recipe.slot import Slot
from .batches.packed import Packed
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

    path: str | list[str] | None = None
    """A file, a folder, a glob, or a list of them, relative to the working folder. `.jsonl` files
    hold one document (or record) a line, `.tsv` files records, `.bin` files uint16 tokens as
    nanoGPT writes them; any other file is UTF-8 text and one document."""

    valid_path: str | list[str] | None = None
    """Files for validation, like `path`; `path` is then used for training alone."""

    dataset: str | None = None
    """A Hugging Face data set, read as a stream (its "train" split). Needs the `datasets`
    package and the network."""

    dataset_config: str | None = None
    """The configuration of `dataset`, if it has several."""

    text_key: str = "text"
    """Key of the text in a line of `.jsonl` or a row of `dataset`."""

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
        if self.path is not None and self.dataset is not None:
            raise ValueError("data.path and data.dataset are two sources: give one of them.")
        if self.path is None and self.dataset is None:
            if self.corpus is None:
                raise ValueError("No text: give data.corpus, data.path or data.dataset.")
            if self.corpus not in CORPORA:
                raise ValueError(unknown("corpus", self.corpus, CORPORA))
        if self.valid_path is not None and self.path is None:
            raise ValueError("data.valid_path goes with data.path, which is not given.")
        return self
