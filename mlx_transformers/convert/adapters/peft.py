"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, read.

Options that change outputs and aren't built are refused by name. Which layers have an adapter, and
their ranks, follow from the tensors; `target_modules` and its like chose them.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError, unknown
from .experts import expert_factors, stacked_factors
from .layout import Arrays, Factors, Layout, Opened, low_rank_table, low_rank_weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
SELECTING = frozenset(
    {
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("modules_to_save", "target_parameters", "rank_pattern", "bias", "feedforward_modules"),
        *("base_model_name_or_path", "revision", "task_type", "inference_mode", "auto_mapping"),
        *("peft_type", "peft_version", "megatron_core", "fan_in_fan_out", "qalora_group_size"),
        *("loftq_config", "eva_config", "ensure_weight_tying", "num_attention_heads"),
        *("num_layers", "num_transformer_submodules", "token_dim", "tokenizer_kwargs"),
        *("tokenizer_name_or_path", "prompt_tuning_init", "prompt_tuning_init_text"),
        *("encoder_hidden_size", "encoder_dropout", "encoder_num_layers", "prefix_projection"),
        *("encoder_reparameterization_type", "init_weights", "init_ia3_weights"),
        *("projection_prng_key", "d_initial"),
    }
)
"""Keys that choose layers, or act in training alone: the tensors hold what they lead to."""
READ = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "alpha_pattern"),
        *("init_lora_weights", "num_virtual_tokens", "save_projection", "vera_dropout"),
    }
)
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base's weights, so that the adapter fits no published one."""


@dataclass(frozen=True)
class PeftFolder:
    """The content of a folder.

    Attributes:
        config: its adapter_config.json.
        tensors: by name, without PEFT's prefix.
        where: the folder, for errors.
        layout: the names of the base.
        base: the base's weights by our path.
    """

    config: Mapping[str, Any]
    tensors: Arrays
    where: str
    layout: Layout
    base: Arrays


def open_peft(
    config: Mapping[str, Any],
    tensors: Mapping[str, mx.array],
    where: str,
    layout: Layout,
    base: Arrays,
) -> Opened:
    """Read an adapter that PEFT saved.

    Raises:
        ConvertError: an option that isn't built, or tensors that don't fit the base.
    """
    kind = str(config.get("peft_type", ""))
    if kind not in KINDS:
        raise ConvertError(f"{where}: {unknown('peft_type', kind, KINDS)}")
    _refuse_options(config, where)
    plain = {name.removeprefix(PREFIX): array for name, array in tensors.items()}
    return KINDS[kind](PeftFolder(config, plain, where, layout, base))


def _refuse_options(config: Mapping[str, Any], where: str) -> None:
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGED_BASE):
        raise ConvertError(
            f"{where}: init_lora_weights = '{start}' changes the weights of the base, and the "
            "adapter belongs to those. In PEFT, save it with path_initial_model_for_weight_"
            "conversion, or merge it, and import the result."
        )
    for key, value in config.items():
        if key in SELECTING or key in READ or value in (None, False, [], {}, ""):
            continue
        raise ConvertError(
            f"{where}: the option {key} = {value!r} of {CONFIG} isn't built. Merge the adapter in "
            "PEFT (merge_and_unload), and import the result."
        )


def _lora(folder: PeftFolder) -> Opened:
    config, layout, where = folder.config, folder.layout, folder.where
    modules, rest = _by_module(folder.tensors, ("lora_A", "lora_B"))
    dora = bool(config.get("use_dora"))
    updates: dict[str, Factors] = {}
    experts: dict[str, dict[int, Factors]] = {}
    nested: dict[str, list[tuple[mx.array, mx.array]]] = {}
    for module, parts in modules.items():
        _check_pair(parts, module, where)
        a, b = parts["lora_A"], parts["lora_B"]
        name = module.replace(".base_layer", "")
        if name.endswith("experts") and config.get("target_parameters"):
            nested.setdefault(name, []).append((a, b))
            continue
        magnitude = rest.pop(f"{module}.lora_magnitude_vector", None)
        if magnitude is None:
            magnitude = rest.pop(f"{module}.lora_magnitude_vector.weight", None)
        if dora and magnitude is None:
            raise ConvertError(f"{where}: use_dora, but {module} has no lora_magnitude_vector.")
        if "embedding" in parts:
            a, b = b.T, a.T
        update = Factors(a, b, _scale(config, module, parts["rank"]), magnitude)
        move = layout.move(f"{name}.weight", where)
        if len(move.theirs) > 1:
            number = move.theirs.index(layout.renamed(f"{name}.weight"))
            for path in layout.layers(move):
                experts.setdefault(path, {})[number] = update
            continue
        updates |= _of_layers(layout, name, update, where)
    for path, own in experts.items():
        updates[path] = stacked_factors(own, layout.shapes[f"{path}.weight"], where)
    for module, pairs in nested.items():
        rank = int(config["r"])
        updates |= expert_factors(layout, module, pairs, rank, _scale(config, module, rank), where)
    table = low_rank_table(
        "dora" if dora else "lora",
        updates,
        rslora=bool(config.get("use_rslora")),
        tied=bool(config.get("ensure_weight_tying")),
        dropout=float(config.get("lora_dropout") or 0.0),
    )
    return _with_trained(folder, table, low_rank_weights(updates), rest)


def _of_layers(layout: Layout, module: str, update: Factors, where: str) -> dict[str, Factors]:
    found = layout.factors(module, update.a, update.b, where)
    norms = {} if update.magnitude is None else layout.vectors(module, update.magnitude, where)
    return {
        path: Factors(own["a"], own["b"], update.scale, norms.get(path))
        for path, own in found.items()
    }


def _by_module(
    tensors: Mapping[str, mx.array], names: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], Arrays]:
    """The factors of each module, and the other tensors."""
    found: dict[str, dict[str, Any]] = {}
    rest: Arrays = {}
    for name, array in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?", name)
        if match is None:
            rest[name] = array
            continue
        parts = found.setdefault(match[1], {})
        parts[f"lora_{match[3]}"] = array.astype(mx.float32)
        if match[3] == "A":
            parts["rank"] = array.shape[0]
        if match[2]:
            parts["embedding"] = True
    return found, rest


def _check_pair(parts: Mapping[str, Any], module: str, where: str) -> None:
    if not {"lora_A", "lora_B"} <= set(parts):
        raise ConvertError(f"{where}: {module} has one of the two factors lora_A and lora_B only.")
    if parts["lora_A"].shape[0] != parts["lora_B"].shape[1]:
        raise ConvertError(
            f"{where}: lora_A {list(parts['lora_A'].shape)} and lora_B "
            f"{list(parts['lora_B'].shape)} of {module} have no rank in common."
        )


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor of a module's update: alpha / R, or alpha / √R."""
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _with_trained(
    folder: PeftFolder, table: dict[str, Any], weights: Arrays, rest: Arrays
) -> Opened:
    """Add weights of the base that were trained, or saved though they were not."""
    named = {
        name.replace(".base_layer", "").replace(".modules_to_save", ""): array
        for name, array in rest.items()
    }
    own = folder.layout.whole(named, folder.where)
    changed = {
        path: array
        for path, array in own.items()
        if array.shape != folder.base[path].shape
        or not bool(mx.array_equal(array, folder.base[path]))
    }
    for path, array in changed.items():
        if array.shape != folder.base[path].shape:
            raise ConvertError(
                f"{folder.where}: {path} has the shape {list(array.shape)}, and the base "
                f"{list(folder.base[path].shape)}: the vocabulary was resized. Merge the adapter "
                "in PEFT, and import the result."
            )
    adapted = {path for path in changed if path.removesuffix(".weight") in _targets(weights)}
    moved = {_in_adapted(path, weights): array for path, array in changed.items()}
    if adapted:
        raise ConvertError(
            f"{folder.where}: {min(adapted)} is saved with other numbers than the base has, and "
            "adapted too. Merge the adapter in PEFT, and import the result."
        )
    tied = "head.weight" not in folder.base and "embed.table.weight" in changed
    if tied and not folder.config.get("ensure_weight_tying"):
        raise ConvertError(
            f"{folder.where}: the embedding was trained (modules_to_save) apart from the head that "
            "the base ties to it. Merge the adapter in PEFT with tie_word_embeddings = false, and "
            "import the result."
        )
    if changed:
        table = table | {"train": sorted(changed)}
    return Opened(table, weights | moved)


def _targets(weights: Arrays) -> set[str]:
    return {name.split(".adapter.")[0] for name in weights if ".adapter." in name}


def _in_adapted(path: str, weights: Arrays) -> str:
    """The path of a base's parameter in the adapted model."""
    module, _, leaf = path.rpartition(".")
    return f"{module}.base.{leaf}" if module in _targets(weights) else path


def _ia3(folder: PeftFolder) -> Opened:
    weights: Arrays = {}
    outputs, inputs = [], []
    rest: Arrays = {}
    for name, array in folder.tensors.items():
        match = re.fullmatch(r"(.+)\.ia3_l", name)
        if match is None:
            rest[name] = array
            continue
        module, flat = match[1], array.astype(mx.float32).reshape(-1)
        if array.ndim == 2 and array.shape[0] == 1 and _reads_input(folder, module):
            move = folder.layout.move(f"{module}.weight", folder.where)
            found = dict.fromkeys(folder.layout.layers(move), flat)
            inputs += list(found)
        else:
            found = folder.layout.vectors(module, flat, folder.where)
            outputs += list(found)
        weights |= {f"{path}.adapter.factor": own for path, own in found.items()}
    table = {"kind": "ia3", "targets": sorted(outputs), "inputs": sorted(inputs)}
    return _with_trained(folder, table, weights, rest)


def _reads_input(folder: PeftFolder, module: str) -> bool:
    """Whether PEFT scales the input of a module: one of `feedforward_modules`."""
    named = folder.config.get("feedforward_modules") or []
    if isinstance(named, str):
        return re.fullmatch(named, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in named)


def _vera(folder: PeftFolder) -> Opened:
    a, b = (folder.tensors.get(f"base_model.vera_{x}") for x in "AB")
    if a is None or b is None:
        raise ConvertError(
            f"{folder.where}: the projections vera_A and vera_B are not in the file, and torch "
            "alone draws the same ones from projection_prng_key. Save it with save_projection=True."
        )
    weights: Arrays = {}
    rest: Arrays = {}
    targets = []
    for name, array in folder.tensors.items():
        match = re.fullmatch(r"(.+)\.vera_lambda_([bd])", name)
        if name.startswith("base_model.vera_"):
            continue
        if match is None:
            rest[name] = array
            continue
        move = folder.layout.move(f"{match[1]}.weight", folder.where)
        paths = folder.layout.layers(move)
        if len(paths) > 1 or len(move.theirs) > 1 or folder.layout.transposed(move):
            raise ConvertError(
                f"{folder.where}: VeRA of the packed layer {match[1]} isn't built. Merge the "
                "adapter in PEFT, and import the result."
            )
        weights[f"{paths[0]}.adapter.{match[2]}"] = array.astype(mx.float32)
        targets.append(paths[0])
    shapes = [folder.layout.shapes[f"{path}.weight"] for path in set(targets)]
    out, width = (max(shape[i] for shape in shapes) for i in (0, 1))
    shared = {"a": a[:, :width], "b": b[:out]}
    weights |= {f"adaptation.shared.{n}": x.astype(mx.float32) for n, x in shared.items()}
    table = {
        "kind": "vera",
        "rank": a.shape[0],
        "targets": sorted(set(targets)),
        "dropout": float(folder.config.get("vera_dropout") or 0.0),
    }
    return _with_trained(folder, table, weights, rest)


def _prompt(folder: PeftFolder) -> Opened:
    rest = dict(folder.tensors)
    vectors = rest.pop("prompt_embeddings").astype(mx.float32)
    n = int(folder.config["num_virtual_tokens"])
    path = "encoder.embed" if "decoder.embed.table.weight" in folder.layout.shapes else "embed"
    weights = {f"{path}.prompt.vectors": vectors[:n]}
    return _with_trained(folder, {"kind": "prompt", "length": n}, weights, rest)


def _prefix(folder: PeftFolder) -> Opened:
    rest = dict(folder.tensors)
    stored = rest.pop("prompt_embeddings").astype(mx.float32)
    paths = [
        name.removesuffix(".k.weight")
        for name in folder.layout.shapes
        if re.fullmatch(r"stack\.blocks\.\d+\.mixer\.k\.weight", name)
    ]
    paths.sort(key=lambda path: int(path.split(".")[2]))
    n, heads = len(stored), int(folder.config["num_attention_heads"])
    if not paths or stored.shape[1] % (2 * len(paths) * heads):
        raise ConvertError(
            f"{folder.where}: prompt_embeddings {list(stored.shape)} don't hold keys and values of "
            f"{heads} heads in {len(paths)} layers of attention."
        )
    both = stored.reshape(n, 2 * len(paths), heads, -1).transpose(1, 2, 0, 3)
    weights = {
        f"{path}.prefix.{name}": both[2 * i + j]
        for i, path in enumerate(paths)
        for j, name in enumerate("kv")
    }
    return _with_trained(folder, {"kind": "prefix", "length": n}, weights, rest)


KINDS: dict[str, Callable[[PeftFolder], Opened]] = {
    "LORA": _lora,
    "IA3": _ia3,
    "VERA": _vera,
    "PROMPT_TUNING": _prompt,
    "P_TUNING": _prompt,
    "PREFIX_TUNING": _prefix,
}
"""The readers of PEFT's kinds."""
