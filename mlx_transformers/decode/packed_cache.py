"""Quantized KV caches: keys and values in few bits while decoding."""

from dataclasses import dataclass
from typing import Any

from ..core.errors import RunError
from ..layers.mixers.kv_cache import packed_cache
from ..models.decoder import DecoderModel
from ..models.model import Decodable
from ..ops.packed import Packing

BITS = (8, 4)
"""Bits of a key's or value's number."""


@dataclass(frozen=True)
class CachePacking:
    """How the KV cache is packed: integers with a scale and an offset per group of a key or value.

    Attributes:
        bits: of a number, 8 or 4.
        group_size: neighbouring features that share a scale: 32, 64 or 128.
    """

    bits: int
    group_size: int = 64

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise RunError(f"--kv-bits {self.bits}: a KV cache has 8 or 4 bits.")
        if fault := self.how.fault():
            raise RunError(f"--kv-group-size {self.group_size}: {fault}.")

    @property
    def how(self) -> Packing:
        """The packing."""
        return Packing(self.bits, self.group_size)


def packed_caches(model: Decodable, states: list[Any], packing: CachePacking | None) -> list[Any]:
    """The empty decode states of all layers with their KV caches packed, if a packing is given.

    Raises:
        RunError: a mixer has no KV cache, or a group doesn't divide its keys or values.
    """
    if packing is None:
        return states
    if not isinstance(model, DecoderModel):
        raise RunError("--kv-bits is built for decoders with attention in every layer.")
    caches = []
    for number, (layer, state) in enumerate(zip(model.stack.layers(), states, strict=True)):
        mixer = layer.config.mixer
        if not mixer.rewinds:
            raise RunError(
                f"Layer {number} has no KV cache to pack: mixer.kind = '{mixer.kind}' keeps "
                "another state. Leave out --kv-bits."
            )
        caches.append({**state, "mixer": packed_cache(state["mixer"], packing.how)})
    return caches
