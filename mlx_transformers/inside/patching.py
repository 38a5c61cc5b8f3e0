"""Activation patching between two texts: layers and positions that carry their difference."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..core.context import Recording
from ..core.errors import RunError
from .predictions import best
from .reading import Reading

ROWS = 32
"""Positions that are patched in one pass, each in a row of its own."""
LONGEST = 128
"""Tokens of a prompt up to which the map is computed: a pass of T rows for each layer."""


@dataclass(frozen=True)
class Patching:
    """Effect of one residual vector of the text, put into a pass over the edited text.

    Meng et al. 2022 (ROME), section 2; Zhang and Nanda 2024, "Towards Best Practices of Activation
    Patching". The measure is the difference of the logits of `answer` and `other` at the last
    position.

    Attributes:
        answer, other: texts of the most probable tokens after the text and after the edited one.
        text, edited: the measure on each.
        restored: by layer and position, the share of the way from `edited` back to `text`,
            `[L, T]`.
    """

    answer: str
    other: str
    text: float
    edited: float
    restored: np.ndarray


@dataclass
class Patched:
    """An observer that replaces one position per row in the output of one layer.

    Attributes:
        layer: the layer's number.
        value: `[1, T, D]`, the output to take the vectors from.
        where: `[B, T, 1]`, 1 where a row takes it.
    """

    layer: int
    value: mx.array
    where: mx.array
    passed: int = 0

    def observe(self, name: str, array: mx.array) -> mx.array:
        """Replace the vectors of the layer."""
        if name != "layer_output":
            return array
        self.passed += 1
        return mx.where(self.where, self.value, array) if self.passed - 1 == self.layer else array


def patch(text: Reading, edited: Reading) -> Patching:
    """Put each residual vector of one text into a pass over the other.

    Args:
        text: the text whose prediction is to come back.
        edited: another one of as many tokens.

    Raises:
        RunError: the texts differ in length, are too long, predict the same, or the model has a
            source.
    """
    _check(text, edited)
    recording = Recording({"layer_output"})
    clean, last = text.run(recording)[0, -1], edited.run()[0, -1]
    answer, second = best(clean), best(last)
    if answer == second:
        raise RunError(
            f"Both texts are continued by {text.text(answer)!r}, so there is nothing to patch. "
            "Edit a token that changes the prediction."
        )

    def measure(logits: mx.array) -> mx.array:
        return logits[..., answer] - logits[..., second]

    high, low = (float(np.array(measure(logits_of_text))) for logits_of_text in (clean, last))
    length = len(text.tokens)
    restored = []
    for layer, (_, value) in enumerate(recording.arrays):
        differences = []
        for first in range(0, length, ROWS):
            where = mx.eye(length)[first : first + ROWS, :, None] > 0
            logits = edited.run(Patched(layer, value, where), rows=len(where))
            differences.append(np.array(measure(logits[:, -1])))
        restored.append((np.concatenate(differences) - low) / (high - low))
    return Patching(text.text(answer), text.text(second), high, low, np.stack(restored))


def _check(text: Reading, edited: Reading) -> None:
    """Refuse pairs of texts between which no vector can be exchanged."""
    lengths = len(text.tokens), len(edited.tokens)
    if text.source or not text.ahead:
        raise RunError("Activation patching is for decoders: it compares what follows two texts.")
    if lengths[0] != lengths[1]:
        raise RunError(
            f"The texts have {lengths[0]} and {lengths[1]} tokens, so their positions don't "
            "correspond. Replace tokens by as many others."
        )
    if lengths[0] > LONGEST:
        raise RunError(f"The texts have {lengths[0]} tokens; patching takes at most {LONGEST}.")
