"""GGUF files, by what llama.cpp calls an architecture: LLaMA's own, Qwen's, Gemma's, GPT-2's.

Metadata becomes a config.json of transformers and back, so that all else is the family's own. The
tensors have names of their own; in a "llama" queries and keys have their rotary features as
neighbours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..core.errors import ConvertError
from .config import ACTIVATIONS, HfConfig
from .family import Family, Table, readable
from .gguf_architecture import Architecture
from .gguf_architectures import ARCHITECTURES
from .gguf_factors import USUAL_BASE, extra, take
from .gguf_file import Metadata, read_file
from .gguf_latents import split_latents
from .gguf_layers import PATTERN, layers_of, pattern_of
from .gguf_positions import Rotary, local_base, rope_of
from .gguf_writer import always_whole, write_file
from .packed import PackedTensor
from .reference import defaults_of

REQUIRED = (
    *("embedding_length", "block_count", "attention.head_count", "attention.kv_lora_rank"),
    *("ssm.conv_kernel", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count"),
)
"""Sizes that llama.cpp asks for in every architecture that has them."""
SIZES = (
    *REQUIRED,
    *("context_length", "vocab_size", "attention.head_count_kv"),
    *("rope.dimension_count", "expert_group_count", "expert_group_used_count"),
)
"""Sizes that are whole numbers of at least 1 where a file has them."""
MIXERS = ("attention", "latent", "mamba", "mamba2")
"""The mixers of the architectures that are built here."""
GROUPS = ("expert_group_count", "expert_group_used_count")
ZEROS = ("sliding_window", "clip_qkv")
"""Keys of config.json that a file may have as 0 where there is none, as Phi-4's."""
FLOATS = (
    "freq_base",
    "freq_base_swa",
    "epsilon",
    "scale",
    "softcapping",
    "clamp_kqv",
    "factor",
    "multiplier",
)
"""Ends of the keys that llama.cpp reads as float32; it refuses whole numbers there."""


def check_mixers(table: Mapping[str, Any]) -> None:
    """Refuse a `[model]` table of a decoder with a mixer that no architecture here has.

    Raises:
        ConvertError: names the mixer.
    """
    parts: list[Any] = [table] if table.get("kind") == "decoder" else []
    while parts:
        part = parts.pop()
        values = part.items() if isinstance(part, Mapping) else enumerate(part)
        parts += [value for _, value in values if isinstance(value, Mapping | list)]
        mixer = part.get("mixer") if isinstance(part, Mapping) else None
        kind = mixer.get("kind") if isinstance(mixer, Mapping) else None
        if kind is not None and kind not in MIXERS:
            raise ConvertError(
                f"A model with the mixer '{kind}' is not written as GGUF: of mixers, "
                f"{', '.join(MIXERS[:-1])} and {MIXERS[-1]} are."
            )


def architecture_for(config: HfConfig) -> tuple[str, Architecture]:
    """Return the architecture of a config, and its name.

    Raises:
        ConvertError: llama.cpp has none, or none that is written here.
    """
    for name, found in ARCHITECTURES.items():
        if config.model_type in found.families:
            return found.name or name, found
    known = [kind for found in ARCHITECTURES.values() for kind in found.families]
    raise ConvertError(
        f"A model_type '{config.model_type}' is not written as GGUF: {', '.join(known[:-1])} and "
        f"{known[-1]} are."
    )


@dataclass(frozen=True)
class GgufModel:
    """The model of a file.

    Attributes:
        config: as its config.json would be.
        tensors: by name, quantized ones decoded.
        packed: those that MLX's packed integers hold exactly, by name.
        family: its family, with the names and the layout of the file.
        metadata: of the file.
    """

    config: HfConfig
    tensors: dict[str, mx.array]
    packed: dict[str, PackedTensor]
    family: Family
    metadata: Metadata


def read_gguf(path: Path, packed: bool = False) -> GgufModel:
    """Return the model of a file, with the packed integers of quantized tensors if `packed`.

    Raises:
        ConvertError: it isn't a GGUF file, or of another architecture, or says what isn't built.
    """
    metadata, tensors, integers = read_file(path, packed)
    table = config_of(metadata, "output.weight" not in tensors, str(path))
    biases = {
        **dict.fromkeys(("attention_bias", "use_qkv_bias"), "blk.0.attn_q.bias"),
        "mlp_bias": "blk.0.ffn_up.bias",
    }
    found = architecture_of(metadata)
    if isinstance(found.positions, Rotary) and found.positions.factors:
        table |= take(table, tensors, str(path))
    known = defaults_of(table["model_type"])
    table |= {key: True for key, name in biases.items() if name in tensors and key in known}
    table |= {
        key: there if name in tensors else absent
        for key, (name, there, absent) in found.signs.items()
    }
    config = HfConfig(table, str(path))
    split_latents(config, tensors, integers)
    return GgufModel(config, tensors, integers, as_gguf(config), metadata)


def write_gguf(
    path: Path,
    config: Table,
    tensors: Mapping[str, mx.array],
    more: Mapping[str, Any],
    quantize: str | None = None,
) -> None:
    """Write a file from a config of transformers and tensors under GGUF names.

    Args:
        path: the file.
        config: as config.json holds it, of a family for which `as_gguf` has a form.
        tensors: under the names of `as_gguf`.
        more: further metadata, the tokenizer's for one.
        quantize: `q8_0` or `q4_0`; None writes the tensors as they are.

    Raises:
        ConvertError: a tensor can't be quantized.
    """
    arrays = {
        name: array.astype(mx.float32) if array.ndim == 1 or always_whole(name) else array
        for name, array in {**tensors, **extra(config)}.items()
    }
    write_file(path, {**metadata_of(config), **more}, arrays, quantize)


def as_gguf(config: HfConfig, gelu_tanh: bool = True) -> Family:
    """Return the family of a config with the names and the layout of GGUF.

    Args:
        config: the config.
        gelu_tanh: whether the exact GELU may become its tanh approximation, where llama.cpp has
            that alone.

    Raises:
        ConvertError: a family that is not written, or an option that llama.cpp lacks there.
    """
    _, found = architecture_for(config)
    has, key = found.activation
    given = ACTIVATIONS.get(config.data.get(key, has), has) if key else "gelu"
    if (given, has) == ("gelu", "gelu_tanh"):
        if not gelu_tanh:
            raise ConvertError(
                f"llama.cpp computes the tanh approximation of GELU in a {config.model_type}, and "
                "this model has the exact one; the two differ by 0.0005 at most. --gelu-tanh "
                "writes it all the same."
            )
    elif given != has:
        raise ConvertError(f"llama.cpp has {has} only in a {config.model_type}, not {given}.")
    for key, fixed in found.fixed.items():
        value = fixed(config) if callable(fixed) else fixed
        given = config.data.get(key, value)
        if given is None and callable(fixed):  # a null means what the family's code makes of it
            continue
        if (given or None) != (value or None):
            raise ConvertError(
                f"llama.cpp has {key} = {value} only in a {config.model_type}, not "
                f"{config.data[key]}."
            )
    if lacking := found.lacks(config):
        raise ConvertError(lacking)
    tied = (("output.weight", "token_embd.weight"),)
    family = found.families[config.model_type]
    return replace(family, weights=found.weights, renames=(), dropped=(), tied=tied)


def architecture_of(metadata: Mapping[str, Any], where: str = "The file") -> Architecture:
    """Return the architecture of a file.

    Raises:
        ConvertError: it isn't built.
    """
    name = metadata.get("general.architecture", "")
    for title, found in ARCHITECTURES.items():
        marked = all(metadata.get(f"{name}.{key}") == v for key, v in found.marks.items())
        if (found.name or title) == name and marked:
            return found
    known = dict.fromkeys(found.name or title for title, found in ARCHITECTURES.items())
    raise ConvertError(
        f"{where} is of the architecture '{name}'; of GGUF files, {', '.join(known)} are read. "
        "Import the folder that it was converted from, if its family is known."
    )


def config_of(metadata: Mapping[str, Any], tied: bool, where: str = "The file") -> Table:
    """Return the config.json of the metadata.

    Raises:
        ConvertError: another architecture, an option that isn't built, or a value of another type
            or size than the key has.
    """
    arch = architecture_of(metadata, where)
    with readable(HfConfig({}, where), metadata["general.architecture"]):
        return _config(arch, metadata, tied, where)


def _config(arch: Architecture, metadata: Mapping[str, Any], tied: bool, where: str) -> Table:
    prefix = f"{metadata['general.architecture']}."
    own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    if own.get(GROUPS[0]) in (0, 1):  # llama.cpp has groups of experts from two on
        own = {key: v for key, v in own.items() if key not in GROUPS or v not in (0, 1)}
    _check_values(arch, own, where, prefix)
    read = {arch.keys[key]: key for key in own if key in arch.keys}
    found: Table = {ours: own.pop(key) for ours, key in read.items()}
    if isinstance(arch.positions, Rotary) and "rope.freq_base" in arch.keys:
        found.setdefault(arch.keys["rope.freq_base"], USUAL_BASE)
    if arch.positions is not None:
        found |= arch.positions.read(own, found, f"{where} sets {prefix.removesuffix('.')}")
    if arch.pattern is not None:
        usual = arch.pattern(HfConfig(found, where))
        found["layer_types"] = layers_of(own.pop(PATTERN, None), usual)
    for key, constant in arch.constants.items():
        value = constant(HfConfig(found, where)) if callable(constant) else constant
        given = own.get(key, value)
        if given == value or (key in own and _near(given, value)):
            own.pop(key, None)
    if own:
        raise ConvertError(
            f"{where} sets {prefix}{next(iter(own))}, which is not built for GGUF files."
        )
    for key in (*arch.zeros, *ZEROS):
        if found.get(key) == 0:
            found[key] = None
    found.setdefault("vocab_size", len(metadata.get("tokenizer.ggml.tokens", [])))
    for key, value in found.items():
        if key.endswith(("eps", "epsilon")):
            found[key] = float(f"{value:.6g}")  # a float32 there
    kind = next(iter(arch.families))
    if "num_local_experts" in found and "mixtral" in arch.families:
        kind = "mixtral"
    config = {
        "architectures": [arch.families[kind].architecture],
        "model_type": kind,
        **arch.absent,
        **found,
        "tie_word_embeddings": tied,
    }
    has, key = arch.activation
    default = defaults_of(kind).get(key, has) if key else has
    if ACTIVATIONS.get(default, default) != has:
        config[key] = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == has)
    for key, fixed in arch.fixed.items():
        value = fixed(HfConfig(config, where)) if callable(fixed) else fixed
        given = found[key] if key in read else value
        if (given or None) != (value or None) and not _near(given, value):
            raise ConvertError(
                f"{where} sets {prefix}{read[key]} = {given}, and {value} alone is built for a "
                f"{kind} in GGUF files."
            )
        config[key] = value
    return config


def _check_values(arch: Architecture, own: Metadata, where: str, prefix: str) -> None:
    """Refuse text where numbers are, and sizes that are absent or below 1.

    Raises:
        ConvertError: names the key.
    """
    for key in arch.keys:
        value = own.get(key)
        if isinstance(value, str):
            raise ConvertError(f"{where}: {prefix}{key} = {value!r} is text, not a number.")
        if value is None and key in REQUIRED:
            raise ConvertError(f"{where} lacks {prefix}{key}, which has no default.")
        if value is None or key not in SIZES:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConvertError(
                f"{where}: {prefix}{key} = {value} has to be a whole number of at least 1."
            )


def metadata_of(config: Table) -> Metadata:
    """Return the metadata of a config, the inverse of `config_of`.

    Raises:
        ConvertError: llama.cpp has no such option for this architecture.
    """
    name, arch = architecture_for(HfConfig(config))
    rope = rope_of(config)
    bases = {"rope_theta": rope.get("rope_theta"), "rope_local_base_freq": local_base(config)}
    values = {**bases, **config}
    values |= {key: 0 for key in arch.zeros if values.get(key) is None}
    found = {
        f"{name}.{key}": values[ours]
        for key, ours in arch.keys.items()
        if values.get(ours) is not None
    }
    found["general.architecture"] = name
    found |= {
        f"{name}.{key}": value(HfConfig(config)) if callable(value) else value
        for key, value in arch.constants.items()
    }
    if arch.positions is not None:
        found |= arch.positions.write(config, name)
    if arch.pattern is not None:
        pattern = pattern_of(config.get("layer_types"), arch.pattern(HfConfig(config)))
        found |= {f"{name}.{PATTERN}": pattern} if pattern else {}
    for key in found:
        if key.endswith(FLOATS):
            found[key] = float(found[key])
    return found


def _near(given: Any, value: Any) -> bool:
    """Whether two numbers differ by rounding to float32 alone."""
    numbers = isinstance(given, int | float) and isinstance(value, int | float)
    return numbers and math.isclose(given, value, rel_tol=1e-6)
