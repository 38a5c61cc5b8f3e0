"""An additive bias of attention scores, as arrays whose size grows with the length alone."""

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """A bias by the distance of query and key, for T queries of T keys.

    The bias of query t and key s is the sum of the parts that there are, where d is
    `s - t + T - 1`, and q the query times the scale of the scores:

    Attributes:
        by_distance: `[1, H, 2T - 1]`: `by_distance[d]` (ALiBi, T5's buckets).
        keys: `[1 or H, 2T - 1, K]`: `q · keys[d]` (Shaw, Transformer-XL).
        by_key: `[B, H, 1, T]`: `by_key[s]` (Transformer-XL).
    """

    by_distance: mx.array | None = None
    keys: mx.array | None = None
    by_key: mx.array | None = None

    def arrays(self) -> dict[str, mx.array]:
        """The parts that there are, by name."""
        parts = {"by_distance": self.by_distance, "keys": self.keys, "by_key": self.by_key}
        return {name: part for name, part in parts.items() if part is not None}
