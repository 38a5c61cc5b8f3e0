"""What one forward pass carries beside `x`."""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx


@dataclass
class Context:
    """The companions of the activations on their way through a stack.

    Attributes:
        causal: whether a token may see only itself and its past.
        offset: absolute position of the first token, an int or an array scalar (decoding).
        positions: `[B, T]` absolute positions, only where they are not `offset + arange(T)`.
        segments: `[B, T]` document ids of packed rows; a token sees only its own document.
        valid: `[B, T]` whether a token exists; None where no row is padded. Padding is never seen.
        reach: how long the text is of which this pass is a part, where positions depend on it; None
            where the pass ends it.
        pad: `[B]` how many slots before a row's first token are padding, in decoding.
        prefix: `[B]` how many tokens of a causal pass are seen by every other, before and after.
        types: `[B, T]` token types (BERT's segments A and B), for embeddings that have them.
        memory: what an encoder made of the source: `[B, S, D]`, or a tree of a recurrent one.
        memory_valid: `[B, S]` whether a source token exists; None where no source is padded.
        carried: a recurrent model's state before the first token; the pass leaves the state after
            the last one here. None begins with an empty state and leaves nothing.
        progress: how much of a run is done, from 0 to 1, for what changes over it; None means all.
        position: the stack's position object (`embed`, `rotate`), lent to its mixers.
        key: PRNG key of a training pass; None (evaluation, decoding) turns every dropout off.
        aux: auxiliary losses by name, scalars that layers add to (mean per token).
        stats: statistics by name for the log, never differentiated.
        looks: where it is a list, each attention across appends its weights, `[B, H, T, S]`.
    """

    causal: bool = True
    offset: Any = 0
    positions: mx.array | None = None
    segments: mx.array | None = None
    valid: mx.array | None = None
    reach: mx.array | None = None
    pad: mx.array | None = None
    prefix: mx.array | None = None
    types: mx.array | None = None
    memory: Any = None
    memory_valid: mx.array | None = None
    carried: Any = None
    progress: mx.array | None = None
    position: Any = None
    key: mx.array | None = None
    aux: dict[str, mx.array] = field(default_factory=dict)
    stats: dict[str, mx.array] = field(default_factory=dict)
    looks: list[mx.array] | None = None

    @property
    def training(self) -> bool:
        """Whether gradients will be asked for."""
        return self.key is not None

    def next_key(self) -> mx.array:
        """A fresh PRNG key; the sequence of keys depends only on the pass's own key."""
        if self.key is None:
            raise RuntimeError("This pass has no PRNG key: it is an evaluation pass.")
        keys = mx.random.split(self.key)
        self.key = keys[0]
        return keys[1]

    def split_key(self) -> mx.array | None:
        """A key for another pass beside this one, which goes on with a fresh one itself."""
        return None if self.key is None else self.next_key()

    def dropout(self, x: mx.array, rate: float) -> mx.array:
        """Inverted dropout (Srivastava et al. 2014, section 10) keyed by this pass.

        `nn.Dropout` would draw another mask when a checkpointed block is recomputed.
        """
        if self.key is None or rate == 0.0:
            return x
        keep = mx.random.bernoulli(1.0 - rate, x.shape, key=mx.stop_gradient(self.next_key()))
        return mx.where(keep, x * (1.0 / (1.0 - rate)), mx.zeros((), x.dtype))

    def add_aux(self, name: str, value: mx.array) -> None:
        """Add an auxiliary loss (a scalar per token) to what other layers added under `name`."""
        self.aux[name] = self.aux[name] + value if name in self.aux else value

    def add_stat(self, name: str, value: mx.array) -> None:
        """Keep a statistic for the log under a name that no other layer of this pass uses."""
        self.stats[name] = mx.stop_gradient(value)
