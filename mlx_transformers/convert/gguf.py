"""GGUF files of the LLaMA architecture, which LLaMA, Mistral and Mixtral share in llama.cpp.

Metadata becomes a config.json of transformers and back, so that all else is the family's own. The
tensors have names of their own, and queries and keys their rotary features as neighbours.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import HfConfig
from .families.llama import BLOCK, LLAMA
from .families.mixtral import MIXTRAL
from .family import Family, Table
from .transforms import Pairs
from .weights import Row, rows

Metadata = dict[str, Any]
THEIRS = "blk.{i}"

KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
}
"""Their key, less the name of the architecture, and that of config.json."""

SCALINGS = {"none": "default", "linear": "linear"}
"""Rope scalings: their name, and that of config.json."""


def read_gguf(path: Path) -> tuple[HfConfig, dict[str, mx.array], Family, Metadata]:
    """The config, the tensors and the metadata of a file, and the family that maps them.

    Quantised tensors are multiplied out.

    Raises:
        ConvertError: it isn't a GGUF file, or of another architecture, or says what isn't built.
    """
    try:
        loaded: Any = mx.load(str(path), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise ConvertError(f"{path} can't be read as a GGUF file: {error}.") from error
    packed, raw = loaded
    metadata = {key: v.tolist() if isinstance(v, mx.array) else v for key, v in raw.items()}
    tensors = dequantized(packed)
    config = HfConfig(config_of(metadata, "output.weight" not in tensors, str(path)), str(path))
    return config, tensors, as_gguf(config), metadata


def write_gguf(
    path: Path, config: Table, tensors: Mapping[str, mx.array], more: Mapping[str, Any]
) -> None:
    """Write a file from a config of transformers and tensors under GGUF names.

    Args:
        path: the file; a name that ends in .gguf.
        config: as config.json holds it, of a family for which `as_gguf` has a form.
        tensors: under the names of `as_gguf`.
        more: further metadata, the tokenizer's for one.
    """
    metadata = {name: _mlx(value) for name, value in {**metadata_of(config), **more}.items()}
    arrays = {n: a.astype(mx.float32) if a.ndim == 1 else a for n, a in tensors.items()}
    mx.save_gguf(str(path), arrays, metadata)


def as_gguf(config: HfConfig) -> Family:
    """The family of a config with the names and the layout of GGUF.

    Raises:
        ConvertError: a family that llama.cpp doesn't call "llama".
    """
    family = {"llama": LLAMA, "mistral": LLAMA, "mixtral": MIXTRAL}.get(config.model_type)
    if family is None:
        raise ConvertError(
            f"A model_type '{config.model_type}' is not written as GGUF: "
            "llama, mistral and mixtral are."
        )
    tied = (("output.weight", "token_embd.weight"),)
    return replace(family, weights=weights, renames=(), dropped=(), tied=tied)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of GGUF."""
    queries = config.get("num_attention_heads", 32)
    keys = config.get("num_key_value_heads", None) or queries
    ffn, experts = f"{BLOCK}.ffn", f"{BLOCK}.ffn.experts"
    return [
        Row("embed.table", "token_embd"),
        Row("norm", "output_norm"),
        Row("head", "output"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{THEIRS}.{{attn_norm,ffn_norm}}"),
        Row(f"{BLOCK}.mixer.q", f"{THEIRS}.attn_q", Pairs(queries)),
        Row(f"{BLOCK}.mixer.k", f"{THEIRS}.attn_k", Pairs(keys)),
        *rows(f"{BLOCK}.mixer.{{v,o}}", f"{THEIRS}.{{attn_v,attn_output}}"),
        *rows(f"{ffn}.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}"),
        Row(f"{ffn}.router.gate", f"{THEIRS}.ffn_gate_inp"),
        *rows(f"{experts}.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}_exps"),
    ]


def config_of(metadata: Mapping[str, Any], tied: bool, where: str = "The file") -> Table:
    """The config.json that the metadata says.

    Raises:
        ConvertError: another architecture, or an option that isn't built.
    """
    name = metadata.get("general.architecture")
    if name != "llama":
        raise ConvertError(
            f"{where} is of the architecture '{name}'; of GGUF files, 'llama' is read."
        )
    own = {k.removeprefix("llama."): v for k, v in metadata.items() if k.startswith("llama.")}
    found: Table = {KEYS[key]: own.pop(key) for key in list(own) if key in KEYS}
    scaling = own.pop("rope.scaling.type", "none")
    factor = own.pop("rope.scaling.factor", None)
    heads = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    for key in ("rope.dimension_count", "attention.value_length"):
        if own.pop(key, heads) != heads:
            raise ConvertError(f"{where}: llama.{key} differs from the width of a head, {heads}.")
    if scaling not in SCALINGS or own:
        odd = next(iter(own), f"rope.scaling.type = {scaling}")
        raise ConvertError(f"{where} sets llama.{odd}, which is not built for GGUF files.")
    if scaling != "none":
        found["rope_scaling"] = {"type": SCALINGS[scaling], "factor": factor}
    found.setdefault("vocab_size", len(metadata.get("tokenizer.ggml.tokens", [])))
    kind = "mixtral" if "num_local_experts" in found else "llama"
    eps = float(f"{found['rms_norm_eps']:.6g}")  # a float32 there
    return {
        "architectures": [MIXTRAL.architecture if kind == "mixtral" else LLAMA.architecture],
        "model_type": kind,
        **found,
        "rms_norm_eps": eps,
        "tie_word_embeddings": tied,
    }


def metadata_of(config: Table) -> Metadata:
    """The metadata of a config, the inverse of `config_of`.

    Raises:
        ConvertError: llama.cpp has no such option for this architecture.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    theirs = {ours: name for name, ours in SCALINGS.items()}
    if kind not in theirs or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConvertError(f"Rotary positions {rope} are not written as GGUF.")
    told = {"rope_theta": rope.get("rope_theta"), **config}
    found = {f"llama.{key}": told[ours] for key, ours in KEYS.items() if told.get(ours) is not None}
    heads = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    found |= {"llama.rope.dimension_count": heads, "llama.attention.value_length": heads}
    found |= {"llama.attention.key_length": heads, "general.architecture": "llama"}
    if kind != "default":
        found |= {"llama.rope.scaling.type": theirs[kind]}
        found |= {"llama.rope.scaling.factor": float(rope["factor"])}
    for key in ("llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"):
        found[key] = float(found[key])
    return found


def dequantized(packed: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Tensors as numbers: MLX reads Q4_0, Q4_1 and Q8_0 as weight, scales and biases."""
    out: dict[str, mx.array] = {}
    for name, array in packed.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")) and array.ndim > 1:
            continue
        scales = packed.get(f"{stem}.scales")
        if scales is None:
            out[name] = array
            continue
        # A group of 32 numbers of b bits fills b words of 32 bits.
        bits = array.shape[-1] // scales.shape[-1]
        biases = packed[f"{stem}.biases"]
        out[name] = mx.dequantize(array, scales, biases, group_size=32, bits=bits)
    return out


def _mlx(value: Any) -> Any:
    """A value as MLX writes metadata: arrays, strings and lists of strings."""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str)):
        return value
    if isinstance(value, bool):
        return mx.array(value)
    whole = isinstance(value, int) or (isinstance(value, list) and isinstance(value[0], int))
    kind = mx.float32 if not whole else mx.int32 if isinstance(value, list) else mx.uint32
    return mx.array(value, kind)
