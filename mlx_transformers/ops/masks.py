"""Attention masks by their structure, from which blocks of the boolean array are computed."""

from dataclasses import dataclass, replace

import mlx.core as mx


@dataclass(frozen=True, eq=False)
class Mask:
    """A causal, padding or window mask of T queries and S keys; queries are the last T positions.

    Query t has position `S - T + t`. A key is visible if all conditions hold; `allowed` replaces
    them.

    Attributes:
        causal: a query sees no key after itself.
        window: a query sees keys less than `window` positions away (itself is 0 away; with
            `causal` these are the last `window` tokens, as in Mistral 7B, section 2).
        segments: `[B, S]` document ids of packed rows; a query sees only its own document.
        valid: `[B, S]` whether a key is not padding; no query sees padding.
        chunk: a query sees keys of its own chunk of so many positions (Llama 4's local layers).
        prefix: `[B]` length of the prefix that causal queries see in both directions (prefix LM).
        allowed: explicit boolean array, broadcastable to `[B, 1, T, S]`, as decoding needs.
    """

    causal: bool = True
    window: int | None = None
    segments: mx.array | None = None
    valid: mx.array | None = None
    allowed: mx.array | None = None
    prefix: mx.array | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"An attention window is at least 1 token wide, not {self.window}.")

    def array(self, t: int, s: int) -> mx.array | None:
        """Boolean `[T, S]`, `[B, 1, T, S]` or `[B, 1, 1, S]`, True where a key is visible; None if
        all are."""
        if self.allowed is not None:
            return self.allowed
        return self.block(s - t, s, 0, s)

    def block(self, q0: int, q1: int, k0: int, k1: int) -> mx.array | None:
        """The part of the mask for query positions `[q0, q1)` and keys `[k0, k1)`."""
        allowed = None
        if not self.unbounded(q0, q1, k0, k1):
            ahead = mx.arange(k0, k1)[None, :] - mx.arange(q0, q1)[:, None]
            allowed = ahead <= 0 if self.causal else None
            if allowed is not None and self.prefix is not None:
                in_prefix = mx.arange(k0, k1) < self.prefix[:, None, None, None]
                allowed = allowed | in_prefix
            if self.window is not None:
                near = mx.abs(ahead) < self.window
                allowed = near if allowed is None else allowed & near
            if self.chunk is not None:
                keys, queries = (mx.arange(*ends) // self.chunk for ends in ((k0, k1), (q0, q1)))
                own = keys[None, :] == queries[:, None]
                allowed = own if allowed is None else allowed & own
        if self.segments is not None:
            query_documents, key_documents = self.segments[:, q0:q1], self.segments[:, k0:k1]
            same = (query_documents[:, :, None] == key_documents[:, None, :])[:, None]
            allowed = same if allowed is None else allowed & same
        if self.valid is not None:
            real = self.valid[:, None, None, k0:k1]
            allowed = real if allowed is None else allowed & real
        return allowed

    @property
    def plain(self) -> bool:
        """Whether the mask is causal or empty only, without windows, documents or arrays."""
        arrays = (self.prefix, self.segments, self.valid, self.allowed)
        bounded = self.window is not None or self.chunk is not None
        return not bounded and all(array is None for array in arrays)

    def in_rows_of(self, s: int) -> "Mask":
        """The mask without a window or a chunk that holds all of `s` positions."""
        return replace(
            self,
            window=None if self.window is None or self.window >= s else self.window,
            chunk=None if self.chunk is None or self.chunk >= s else self.chunk,
        )

    def unbounded(self, q0: int, q1: int, k0: int, k1: int) -> bool:
        """Whether causality, window and chunk mask no key of `[k0, k1)` for queries `[q0, q1)`."""
        if self.causal and k1 - 1 > q0:
            return False
        ends = min(q0, k0), max(q1, k1) - 1
        if self.chunk is not None and ends[0] // self.chunk != ends[1] // self.chunk:
            return False
        far = max(q1 - 1 - k0, k1 - 1 - q0)
        return self.window is None or far < self.window

    def keys(self, q0: int, q1: int, s: int) -> tuple[int, int]:
        """The smallest range of keys that holds all visible keys of query positions `[q0, q1)`."""
        lo = 0 if self.window is None else max(0, q0 - self.window + 1)
        hi = s if self.window is None else min(s, q1 - 1 + self.window)
        if self.chunk is not None:
            lo = max(lo, q0 // self.chunk * self.chunk)
            hi = min(hi, ((q1 - 1) // self.chunk + 1) * self.chunk)
        return (lo, min(hi, q1)) if self.causal and self.prefix is None else (lo, hi)
