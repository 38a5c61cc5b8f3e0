"""Positions in GGUF's metadata: rotary ones, those of latent attention, and MPT's biases."""

import math
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import ConvertError
from ..recipe.merge import Table
from .config import HfConfig
from .gguf_file import Metadata
from .layer_types import FULL, SLIDING
from .scalings import yarn

SCALINGS = {"none": "default", "linear": "linear"}
"""Rope scalings: their name, and that of config.json."""
PART = "partial_rotary_factor"
YARN_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}
"""YaRN's limits of interpolation; llama.cpp's latent attention has no others."""
YARN_LOG = 0.1
"""llama.cpp's factor of the logarithm in YaRN's magnitude, which its key has in it."""
ALIBI_BIAS = 8.0
"""The 8 of ALiBi's slopes."""


class Positions(Protocol):
    """The keys of positions, and of what depends on them in a head."""

    def read(self, own: Metadata, found: Table, where: str) -> Table:
        """Take keys out of `own` and return those of config.json.

        Args:
            own: the keys that are not yet understood, without the architecture's name.
            found: keys of config.json so far.
            where: the file and its architecture, for messages.

        Raises:
            ConvertError: a value that isn't built.
        """
        ...

    def write(self, config: Table, name: str) -> Metadata:
        """Return the keys of a config.

        Raises:
            ConvertError: llama.cpp has no such option.
        """
        ...


@dataclass(frozen=True)
class Rotary:
    """Rotary positions.

    Attributes:
        partial: config.json's key of the part of a head that turns; empty where all of it does.
        factors: whether its files may have LLaMA 3.1's scaling, as a tensor.
    """

    partial: str = ""
    factors: bool = False

    def read(self, own: Metadata, found: Table, where: str) -> Table:
        scaling = own.pop("rope.scaling.type", "none")
        factor = own.pop("rope.scaling.factor", None)
        heads = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
        turned = own.pop("rope.dimension_count", heads) if self.partial else heads
        part: Table = {self.partial: turned / heads} if self.partial else {}
        for key in ("rope.dimension_count", "attention.value_length", "attention.key_length"):
            if own.pop(key, heads) != heads:
                raise ConvertError(
                    f"{where}.{key}, which differs from the width of a head, {heads}."
                )
        if scaling not in SCALINGS:
            raise ConvertError(f"{where}.rope.scaling.type = {scaling}, which is not built.")
        if scaling == "none":
            return part
        return part | {"rope_scaling": {"type": SCALINGS[scaling], "factor": factor}}

    def write(self, config: Table, name: str) -> Metadata:
        rope = rope_of(config)
        kind = _kind(rope)
        theirs = {ours: key for key, ours in SCALINGS.items()}
        if self.factors and kind == "llama3":  # the tensor says it
            kind = "default"
        part = rope.get(PART, config.get(self.partial, 1.0))
        if kind not in theirs or (part != 1.0 and not self.partial):
            raise ConvertError(f"Rotary positions {rope} are not written as GGUF.")
        heads = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        widths = ("rope.dimension_count", "attention.value_length", "attention.key_length")
        found: Metadata = {f"{name}.{key}": heads for key in widths}
        found[f"{name}.rope.dimension_count"] = int(part * heads)
        if kind != "default":
            found |= {f"{name}.rope.scaling.type": theirs[kind]}
            found |= {f"{name}.rope.scaling.factor": float(rope["factor"])}
        return found


class LatentRotary:
    """Latent attention, which llama.cpp computes as attention of one key/value head: its key is the
    latent and the rotated part, its value the latent.

    Older files have the widths of the heads themselves, and no keys ending in `_mla`.
    """

    def read(self, own: Metadata, found: Table, where: str) -> Table:
        rank, turned = found["kv_lora_rank"], found["qk_rope_head_dim"]
        heads = found["num_attention_heads"]
        absorbed = "attention.key_length_mla" in own
        if absorbed:
            expected = {"head_count_kv": 1, "key_length": rank + turned, "value_length": rank}
            key, value = (own.pop(f"attention.{x}_length_mla") for x in ("key", "value"))
        else:
            expected = {"head_count_kv": heads}
            key, value = (own.pop(f"attention.{x}_length") for x in ("key", "value"))
        for name, wanted in expected.items():
            if own.pop(f"attention.{name}", wanted) != wanted:
                raise ConvertError(f"{where}.attention.{name}, which is not {wanted}.")
        for name, width, least in (("key", key, turned + 1), ("value", value, 1)):
            if width < least:
                raise ConvertError(
                    f"{where}.attention.{name}_length{'_mla' if absorbed else ''} = {width}, which "
                    f"has to be at least {least}."
                )
        widths = {
            "num_key_value_heads": heads,
            "qk_nope_head_dim": key - turned,
            "v_head_dim": value,
        }
        return widths | self._scaling(own, where)

    def _scaling(self, own: Metadata, where: str) -> Table:
        kind = own.pop("rope.scaling.type", "none")
        if kind == "none":
            return {}
        slope = own.pop("rope.scaling.yarn_log_multiplier", None)
        if kind != "yarn" or slope is None:
            raise ConvertError(f"{where}.rope.scaling.type = {kind}, which is not built.")
        for key, usual in YARN_BETAS.items():
            if (given := own.pop(f"rope.scaling.yarn_{key}", usual)) != usual:
                raise ConvertError(
                    f"{where}.rope.scaling.yarn_{key} = {given}, and {usual:g} is built."
                )
        size = float(f"{slope / YARN_LOG:.6g}")  # a float32 there
        return {
            "rope_scaling": {
                "type": "yarn",
                "factor": own.pop("rope.scaling.factor"),
                "original_max_position_embeddings": own.pop("rope.scaling.original_context_length"),
                "mscale": size,
                "mscale_all_dim": size,
            }
        }

    def write(self, config: Table, name: str) -> Metadata:
        rank, turned = config["kv_lora_rank"], config["qk_rope_head_dim"]
        found = {
            "attention.head_count_kv": 1,
            "attention.key_length": rank + turned,
            "attention.value_length": rank,
            "attention.key_length_mla": config["qk_nope_head_dim"] + turned,
            "attention.value_length_mla": config["v_head_dim"],
            "expert_shared_count": config.get("n_shared_experts") or 0,  # llama.cpp asks for it
        } | self._told_scaling(config)
        return {f"{name}.{key}": value for key, value in found.items()}

    def _told_scaling(self, config: Table) -> Metadata:
        rope = rope_of(config)
        if _kind(rope) == "default":
            return {}
        longest = config["max_position_embeddings"]
        trained = rope.get("original_max_position_embeddings") or longest
        table = yarn(HfConfig(rope), longest, trained) if _kind(rope) == "yarn" else {}
        usual = YARN_BETAS | {"magnitude": 1.0}
        slope = rope.get("mscale_all_dim")
        if not slope or "truncate" in table or any(table.get(k) != v for k, v in usual.items()):
            raise ConvertError(
                f"Rotary positions {rope} are not written as GGUF: llama.cpp has YaRN here with "
                "mscale = mscale_all_dim, beta_fast = 32 and beta_slow = 1 alone."
            )
        return {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": trained,
            "rope.scaling.yarn_log_multiplier": YARN_LOG * slope,
        }


class MptBiases:
    """MPT's biases by distance, and the limit of its projections, which lie in `attn_config`."""

    def read(self, own: Metadata, found: Table, where: str) -> Table:
        if own.pop("attention.max_alibi_bias", 0.0) != ALIBI_BIAS:
            raise ConvertError(f"{where}.attention.max_alibi_bias, which is not {ALIBI_BIAS:g}.")
        limit = own.pop("attention.clamp_kqv", 0.0)
        return {"attn_config": {"alibi": True, **({"clip_qkv": limit} if limit else {})}}

    def write(self, config: Table, name: str) -> Metadata:
        attn: Table = config.get("attn_config") or {}
        usual = (config["d_model"] // config["n_heads"]) ** -0.5
        if not math.isclose(attn.get("softmax_scale") or usual, usual, rel_tol=1e-6):
            raise ConvertError(
                f"llama.cpp has attn_config.softmax_scale = {usual:.6g} only in an mpt of this "
                f"width, not {attn['softmax_scale']}."
            )
        limit = {"attention.clamp_kqv": float(attn["clip_qkv"])} if attn.get("clip_qkv") else {}
        found = {"attention.max_alibi_bias": ALIBI_BIAS} | limit
        return {f"{name}.{key}": value for key, value in found.items()}


def rope_of(config: Table) -> Table:
    """Return the rope table of a config, of layers without a window where they have their own.

    Raises:
        ConvertError: layers with a window have a scaling too.
    """
    rope: Table = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if SLIDING not in rope and FULL not in rope:
        return rope
    if (rope.get(SLIDING) or {}).get("rope_type", "default") != "default":
        raise ConvertError(f"Rotary positions {rope[SLIDING]} are not written as GGUF.")
    return rope.get(FULL) or {}


def local_base(config: Table) -> float | None:
    """Return the base of layers with a window, where they have their own."""
    rope: Table = (config.get("rope_parameters") or {}).get(SLIDING) or {}
    base: float | None = rope.get("rope_theta", config.get("rope_local_base_freq"))
    return base


def _kind(rope: Table) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")
