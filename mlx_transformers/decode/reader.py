"""Reader: one text read by a decoder, whose last tokens can be taken back."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from ..core.context import Context, Cursor
from ..core.errors import RunError
from ..layers.depths.universal import UniversalDepth
from ..layers.kinds import State
from ..layers.mixers.kv_cache import with_spare_slots
from ..models.decoder import DecoderModel
from ..models.model import Decodable
from .engine import CHUNK, dtype
from .packed_cache import CachePacking, packed_caches

Cache = list[Any]
"""The decode state of every layer."""


class Reader:
    """A decoder and its decode state after the first tokens of a text.

    A KV cache goes back by position: entries of later positions aren't seen, and are written over.
    Other states (recurrent ones) are never changed in place, so going back is keeping the earlier
    one, and its tokens are read again with the next ones.

    Attributes:
        model: the decoder.
        cache: the decode state of every layer.
        read: tokens that the state has read.
        slots: tokens that it has room for.
        rewinds: whether it goes back by position.
    """

    def __init__(
        self, model: Decodable, room: int, ahead: int, packing: CachePacking | None = None
    ) -> None:
        """
        Args:
            model: the decoder.
            room: tokens of the longest text.
            ahead: tokens beyond a text that may be read and taken back.
            packing: of the KV cache; None stores it in the dtype of the model.

        Raises:
            RunError: another kind of model, or its context is shorter than `room`.
        """
        if not isinstance(model, DecoderModel) or model.recompute_beyond is not None:
            raise RunError("Speculative decoding is built for decoders with a fixed RoPE.")
        if isinstance(model.stack.get("depth"), UniversalDepth):
            raise RunError("Speculative decoding is not built for Universal Transformers.")
        if model.soft_prompt() is not None:
            raise RunError(
                "Speculative decoding is not built for a soft prompt (adapt.kind = 'prompt'): "
                "leave out --draft."
            )
        if room > model.max_seq_len:
            raise RunError(
                f"The text may have {room:,} tokens, and a model that reads it has a context of "
                f"{model.max_seq_len:,}: ask for fewer with --max-tokens, or take another --draft."
            )
        self.model: DecoderModel = model
        self.slots = min(room + ahead, model.max_seq_len)
        model.position.admit(self.slots)
        self.rewinds = all(block.config.rewinds for block in model.stack.blocks)
        empty = model.stack.init_state(1, self.slots, dtype(model))
        self.cache: Cache = packed_caches(model, empty, packing)
        if self.rewinds:
            self.cache = [with_spare(layer_cache, ahead) for layer_cache in self.cache]
        self.read = 0

    def forward(self, tokens: mx.array, cache: Cache, offset: mx.array) -> tuple[mx.array, Cache]:
        """The vectors `[1, T, D]` that the head reads, after `tokens [T]` at position `offset`, and
        the state."""
        return self.model.decode(tokens[None], cache, Context(cursor=Cursor(offset)))

    def logits(self, h: mx.array) -> mx.array:
        """The logits `[T, V]` of `h [1, T, D]`."""
        return self.model.head(h, self.model.embed.table)[0]

    def read_until(self, known: Sequence[int]) -> mx.array | None:
        """Read the known tokens that the state lacks, in chunks.

        Returns:
            Their vectors as of `forward`, `[1, T, D]`; None where there is none.
        """
        hidden = []
        for start in range(self.read, len(known), CHUNK):
            tokens = token_array(known[start : start + CHUNK])
            h, self.cache = self.forward(tokens, self.cache, mx.array(start))
            mx.eval(h, self.cache)
            hidden.append(h)
        self.read = len(known)
        return mx.concatenate(hidden, axis=1) if hidden else None


def token_array(tokens: Sequence[int]) -> mx.array:
    """Tokens as an array `[T]`."""
    return mx.array(list(tokens), dtype=mx.int32)


def with_spare(state: State, n: int) -> State:
    """The state of a block that rewinds, with room for n tokens that are taken back."""
    return {"mixer": with_spare_slots(state["mixer"], n)}
