"""GGUF files, by what llama.cpp calls an architecture: LLaMA's own, Qwen's, Gemma's, GPT-2's.

Metadata becomes a config.json of transformers and back, so that all else is the family's own. The
tensors have names of their own; in a "llama" queries and keys have their rotary features as
neighbours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import ACTIVATIONS, HfConfig
from .families.gemma import GEMMA
from .families.gpt2 import GPT2
from .families.llama import LLAMA
from .families.mistral import MISTRAL
from .families.mixtral import MIXTRAL
from .families.qwen2 import QWEN2
from .families.qwen3 import QWEN3
from .family import Family, Table
from .gguf_file import read_file
from .rows import AS_IT_IS, BLOCK, Row, rows
from .transforms import Add, Pairs, Split, Transform

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

GPT2_KEYS = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "vocab_size": "vocab_size",
}

SCALINGS = {"none": "default", "linear": "linear"}
"""Rope scalings: their name, and that of config.json."""


@dataclass(frozen=True)
class Architecture:
    """What llama.cpp knows under one name.

    Attributes:
        families: the families that it is, by `model_type`.
        weights: the weight map of its files.
        activation: the one that it has, and the key of config.json that tells it.
        keys: their keys and those of config.json.
        rotary: whether positions are.
        fixed: keys of config.json and the only value that it has of each.
    """

    families: dict[str, Family]
    weights: Callable[[HfConfig], list[Row]]
    activation: tuple[str, str] = ("silu", "hidden_act")
    keys: Mapping[str, str] = field(default_factory=lambda: KEYS)
    rotary: bool = True
    fixed: Mapping[str, Any] = field(default_factory=dict)


def told_by(config: HfConfig) -> tuple[str, Architecture]:
    """Return the architecture of a config, and its name.

    Raises:
        ConvertError: llama.cpp has none, or none that is written here.
    """
    for name, found in ARCHITECTURES.items():
        if config.model_type in found.families:
            return name, found
    known = [kind for found in ARCHITECTURES.values() for kind in found.families]
    raise ConvertError(
        f"A model_type '{config.model_type}' is not written as GGUF: {', '.join(known[:-1])} and "
        f"{known[-1]} are."
    )


def read_gguf(path: Path) -> tuple[HfConfig, dict[str, mx.array], Family, Metadata]:
    """Return the config, the tensors, the family and the metadata of a file.

    Quantized tensors are decoded.

    Raises:
        ConvertError: it isn't a GGUF file, or of another architecture, or says what isn't built.
    """
    metadata, tensors = read_file(path)
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
    """Return the family of a config with the names and the layout of GGUF.

    Raises:
        ConvertError: a family that is not written, or an option that llama.cpp lacks there.
    """
    _, found = told_by(config)
    has, key = found.activation
    given = ACTIVATIONS.get(config.data.get(key, has), has)
    if given != has:
        raise ConvertError(f"llama.cpp has {has} only in a {config.model_type}, not {given}.")
    for key, value in found.fixed.items():
        if config.data.get(key, value) != value:
            raise ConvertError(
                f"llama.cpp has {key} = {value} only in a {config.model_type}, not "
                f"{config.data[key]}."
            )
    tied = (("output.weight", "token_embd.weight"),)
    family = found.families[config.model_type]
    return replace(family, weights=found.weights, renames=(), dropped=(), tied=tied)


def ends(norm: Transform = AS_IT_IS) -> list[Row]:
    """Return the rows before the first layer and after the last; `norm` transforms norms."""
    return [
        Row("embed.table", "token_embd"),
        Row("norm", "output_norm", norm),
        Row("head", "output"),
    ]


def layer(turn: Callable[[int], Transform], config: HfConfig, norm: Transform) -> list[Row]:
    """Return the rows of a layer with a gated ffn; `turn` transforms rotary heads."""
    queries = config.get("num_attention_heads")
    keys = config.get("num_key_value_heads") or queries
    residuals = f"{BLOCK}.{{mixer,ffn}}_residual.pre"
    return [
        *rows(residuals, f"{THEIRS}.{{attn_norm,ffn_norm}}", norm),
        Row(f"{BLOCK}.mixer.q", f"{THEIRS}.attn_q", turn(queries)),
        Row(f"{BLOCK}.mixer.k", f"{THEIRS}.attn_k", turn(keys)),
        *rows(f"{BLOCK}.mixer.{{v,o}}", f"{THEIRS}.{{attn_v,attn_output}}"),
        *rows(f"{BLOCK}.mixer.{{q,k}}_norm", f"{THEIRS}.attn_{{q,k}}_norm"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}"),
    ]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "llama", which may have experts."""
    experts = rows(f"{BLOCK}.ffn.experts.{{gate,up,down}}", f"{THEIRS}.ffn_{{gate,up,down}}_exps")
    router = Row(f"{BLOCK}.ffn.router.gate", f"{THEIRS}.ffn_gate_inp")
    return [*ends(), *layer(Pairs, config, AS_IT_IS), router, *experts]


def by_halves(config: HfConfig) -> list[Row]:
    """Return the weight map of a "qwen2" or "qwen3", whose rotary features are halves like ours."""
    return [*ends(), *layer(lambda heads: AS_IT_IS, config, AS_IT_IS)]


def gemma_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gemma", whose norms hold the factor, not factor - 1."""
    return [*ends(Add(-1.0)), *layer(lambda heads: AS_IT_IS, config, Add(-1.0))]


def gpt2_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a "gpt2"."""
    dim = config.get("n_embd")
    packed = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        *ends(),
        Row("position.table", "position_embd"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{THEIRS}.{{attn_norm,ffn_norm}}"),
        Row(packed, f"{THEIRS}.attn_qkv", Split((dim, dim, dim))),
        Row(f"{BLOCK}.mixer.o", f"{THEIRS}.attn_output"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{THEIRS}.ffn_{{up,down}}"),
    ]


ARCHITECTURES = {
    "llama": Architecture({"llama": LLAMA, "mistral": MISTRAL, "mixtral": MIXTRAL}, weights),
    "qwen2": Architecture({"qwen2": QWEN2}, by_halves),
    "qwen3": Architecture({"qwen3": QWEN3}, by_halves, fixed={"attention_bias": False}),
    "gemma": Architecture(
        {"gemma": GEMMA},
        gemma_weights,
        ("gelu_tanh", "hidden_activation"),
        fixed={"attention_bias": False, "tie_word_embeddings": True},
    ),
    "gpt2": Architecture(
        {"gpt2": GPT2},
        gpt2_weights,
        ("gelu_tanh", "activation_function"),
        GPT2_KEYS,
        rotary=False,
        fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    ),
}
"""By llama.cpp's name."""


def config_of(metadata: Mapping[str, Any], tied: bool, where: str = "The file") -> Table:
    """Return the config.json of the metadata.

    Raises:
        ConvertError: another architecture, or an option that isn't built.
    """
    name = metadata.get("general.architecture", "")
    if name not in ARCHITECTURES:
        raise ConvertError(
            f"{where} is of the architecture '{name}'; of GGUF files, {', '.join(ARCHITECTURES)} "
            "are read."
        )
    told, prefix = ARCHITECTURES[name], f"{name}."
    own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    found: Table = {told.keys[key]: own.pop(key) for key in list(own) if key in told.keys}
    if told.rotary:
        found |= _positions(own, found, f"{where} sets {name}")
    if own:
        raise ConvertError(
            f"{where} sets {prefix}{next(iter(own))}, which is not built for GGUF files."
        )
    found.setdefault("vocab_size", len(metadata.get("tokenizer.ggml.tokens", [])))
    for key, value in found.items():
        if key.endswith(("eps", "epsilon")):
            found[key] = float(f"{value:.6g}")  # a float32 there
    kind = "mixtral" if "num_local_experts" in found else next(iter(told.families))
    return {
        "architectures": [told.families[kind].architecture],
        "model_type": kind,
        **found,
        "tie_word_embeddings": tied,
    }


def _positions(own: Metadata, found: Table, where: str) -> Table:
    """Return the rope scaling of a file, taken out of its keys."""
    scaling = own.pop("rope.scaling.type", "none")
    factor = own.pop("rope.scaling.factor", None)
    heads = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    for key in ("rope.dimension_count", "attention.value_length"):
        if own.pop(key, heads) != heads:
            raise ConvertError(f"{where}.{key}, which differs from the width of a head, {heads}.")
    if scaling not in SCALINGS:
        raise ConvertError(f"{where}.rope.scaling.type = {scaling}, which is not built.")
    if scaling == "none":
        return {}
    return {"rope_scaling": {"type": SCALINGS[scaling], "factor": factor}}


def metadata_of(config: Table) -> Metadata:
    """Return the metadata of a config, the inverse of `config_of`.

    Raises:
        ConvertError: llama.cpp has no such option for this architecture.
    """
    name, arch = told_by(HfConfig(config))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    told = {"rope_theta": rope.get("rope_theta"), **config}
    found = {
        f"{name}.{key}": told[ours] for key, ours in arch.keys.items() if told.get(ours) is not None
    }
    found["general.architecture"] = name
    if arch.rotary:
        found |= _told_positions(config, rope, name)
    for key in found:
        if key.endswith(("freq_base", "epsilon")):
            found[key] = float(found[key])
    return found


def _told_positions(config: Table, rope: Table, name: str) -> Metadata:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    theirs = {ours: key for key, ours in SCALINGS.items()}
    if kind not in theirs or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConvertError(f"Rotary positions {rope} are not written as GGUF.")
    heads = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    widths = ("rope.dimension_count", "attention.value_length", "attention.key_length")
    found: Metadata = {f"{name}.{key}": heads for key in widths}
    if kind != "default":
        found |= {f"{name}.rope.scaling.type": theirs[kind]}
        found |= {f"{name}.rope.scaling.factor": float(rope["factor"])}
    return found


def _mlx(value: Any) -> Any:
    """Return a value as MLX writes metadata: arrays, strings and lists of strings."""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str)):
        return value
    if isinstance(value, bool):
        return mx.array(value)
    whole = isinstance(value, int) or (isinstance(value, list) and isinstance(value[0], int))
    kind = mx.float32 if not whole else mx.int32 if isinstance(value, list) else mx.uint32
    return mx.array(value, kind)
