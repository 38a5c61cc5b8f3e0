"""The `[data]` table of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.errors import unknown
from ..recipe.config import Config, Kind
from ..recipe.slot import Slot
from .batches.packed import Packed
from .batching import Batching
from .corpora.table import CORPORA


class Data(Config):
    """What a model is trained on, and how it becomes tokens.

    The text comes from one place: `path` or `dataset` where one is given, else `corpus`; so
    `--set data.path=FILE` gives any recipe another text.
    """

    corpus: str | None = None
    """A built-in corpus: "shakespeare", or "stdlib", which needs no download; of records,
    "docstrings", which needs none either. `mlxt data list` has them all. Used when neither `path`
    nor `dataset` is given."""

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
    """Which configuration of `dataset`, where it has several."""

    text_key: str = "text"
    """Key of the text in a line of `.jsonl` or a row of `dataset`."""

    tokenizer: Annotated[Kind, Slot("tokenizer")]
    """How text becomes integers."""

    batch: Annotated[Batching, Slot("batch")] = Packed()
    """What a row of a batch is: packed text, or noise, pairs or labels made of it."""

    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The part held out for validation."""

    split: Literal["documents", "tail"] | None = None
    """How it is held out. "documents": those whose hash is small, so equal documents never land
    on both sides and new ones move no old one. "tail": the last of the text, in order, as nanoGPT
    does. Unset: "tail" for a single text or token file, "documents" for anything else."""

    mask_documents: bool = False
    """Give batches document ids, so that a token sees its own document only."""

    shuffle: bool = True
    """Draw the rows of an epoch in random order (from `train.seed`); else in the text's order."""

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
