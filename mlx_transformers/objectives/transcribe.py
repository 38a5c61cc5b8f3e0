"""Speech recognition: predict each token of a transcript from the sound and the tokens before."""

from typing import ClassVar, Literal

from ..core.task import Task
from .objective import SmoothedKind
from .seq2seq import Seq2SeqObjective


class Transcribe(SmoothedKind):
    """The sum of `-log p(token | sound, tokens before it)`; Radford et al. 2022, section 2.2."""

    kind: Literal["transcribe"] = "transcribe"
    requires: ClassVar[tuple[str, ...]] = ("frames", "tokens", "weights")
    tasks: ClassVar[frozenset[Task]] = frozenset({"listen"})

    def build(self) -> Seq2SeqObjective:
        return Seq2SeqObjective(self)
