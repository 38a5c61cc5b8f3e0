"""The sizes of one forward and backward pass, from which layers compute the memory they save.

Each kind answers `saved_bytes(dim, at)`: the bytes per token that its forward saves for its
backward. A layer counts its own input if its backward reads it again, and never its output: the
layer that reads that output counts it.
"""

from dataclasses import dataclass

FLOAT32_BYTES = 4
"""Bytes of a number that stays float32 whatever the compute dtype."""


@dataclass(frozen=True)
class ActivationShape:
    """Sizes of the activations of one microbatch of `batch` rows of `length` tokens.

    Attributes:
        itemsize: bytes of a number in the compute dtype.
        cpu: whether the CPU forms of `ops` run, or the GPU forms.
        biased: whether the layer's position adds a bias to the attention scores.
        memory: length S of the sequence that cross attention reads; 0 without one.
        masked: whether attention gets its mask as an array (padding, documents).
    """

    batch: int
    length: int
    itemsize: int = FLOAT32_BYTES
    cpu: bool = True
    biased: bool = False
    memory: int = 0
    masked: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the microbatch, padding included."""
        return self.batch * self.length
