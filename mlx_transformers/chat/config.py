"""The table `[tools]`: what a model may call while it answers."""

from pydantic import Field

from ..recipe.config import Config


class RetrievalConfig(Config):
    """Search in a folder of texts."""

    folder: str
    """The folder: .txt, .md and .rst files in it and below."""
    embedder: str | None = None
    """The run whose model embeds passages and questions, by name or folder. Unset: passages are
    compared by their words (BM25), in languages that write spaces between them."""
    passages: int = Field(3, ge=1)
    """Passages of a result."""
    words: int = Field(120, ge=10)
    """Words of a passage, about."""


class Tools(Config):
    """Tools that `mlxt chat` and `mlxt serve` offer to the model."""

    calculator: bool = False
    """Whether it may call a calculator."""
    retrieval: RetrievalConfig | None = None
    """Texts that it may search."""

    def any(self) -> bool:
        """Whether there is a tool."""
        return self.calculator or self.retrieval is not None
