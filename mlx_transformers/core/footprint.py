"""What a layer is asked when memory is planned: how large a pass is, and where it runs.

Each kind answers with `kept(dim, at)`: the bytes per token that its forward keeps for its backward,
its own input included where that is read again, its output not (whoever reads it counts it).
"""

from dataclasses import dataclass

WIDE = 4
"""Bytes of a number that is float32 whatever the run computes in."""


@dataclass(frozen=True)
class Pass:
    """One forward and backward over `batch` rows of `length` tokens.

    Attributes:
        width: bytes of a number in the dtype that the run computes in.
        cpu: whether the forms of `ops` for the CPU run, or those for the GPU.
        biased: whether the layer's position adds to the scores of attention.
        memory: tokens of a row of what cross attention reads; 0 where there is none.
        masked: whether an array says which keys exist or are seen.
    """

    batch: int
    length: int
    width: int = WIDE
    cpu: bool = True
    biased: bool = False
    memory: int = 0
    masked: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the pass."""
        return self.batch * self.length
