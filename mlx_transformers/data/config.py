"""The `[data]` table of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..recipe.slot import Slot
from .batches.packed import Packed
from .kinds import BatchKind
from .mixture import MixedText, check_weights
from .text_source import TextSource
from .tokenizers.tokenizer import TokenizerKind


class Data(TextSource):
    """The text that a model is trained on, its tokenizer and its batches.

    The text comes from one place: `path` or `dataset` if one is given, else `corpus`. So
    `--set data.path=FILE` trains any recipe on another text.
    """

    bad_rows: Literal["stop", "skip"] = "stop"
    """Treatment of unusable rows (not JSON, a field missing or null): "stop" is an error that names
    the row, "skip" leaves it out and counts it."""

    mixture: list[MixedText] = Field(default_factory=list)
    """Other texts that are mixed in, each with its share of the rows. A tokenizer that is trained
    on text is trained on all of them; each is evaluated apart."""

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
    def _texts_can_be_mixed(self) -> "Data":
        if not self.mixture:
            return self
        if self.batch.reads_records or "starts" in self.batch.gives:
            raise ValueError(
                f"data.mixture mixes rows of running text, and batches of kind '{self.batch.kind}' "
                "read records, or rows that continue each other. Take data.batch.kind = 'rows', or "
                "remove the mixture (unset = ['data.mixture'])."
            )
        check_weights(self.mixture)
        return self

    def of(self, text: MixedText) -> "Data":
        """Return the table that prepares one text of the mixture alone."""
        source = {name: value for name, value in text if name in TextSource.model_fields}
        return self.model_copy(update={**source, "mixture": []})
