"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, read.

Options that change outputs and aren't built are refused by name. Which layers have an adapter, and
their ranks, follow from the tensors; `target_modules` and its like chose them.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError, unknown
from . import peft_kinds
from .experts import expert_factors, stacked_factors
from .layout import Arrays, Factors, Layout, Opened, low_rank_table, low_rank_weights
from .peft_folder import PeftFolder, of_module, with_trained
from .peft_products import as_lora

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
        *("projection_prng_key", "d_initial", "token_indices", "trainable_token_indices"),
        *("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "total_step"),
        *("orth_reg_weight", "use_effective_conv2d", "decompose_both", "decompose_factor"),
    }
)
"""Keys that choose layers, or act in training alone: the tensors hold what they lead to."""
READ = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "alpha_pattern"),
        *("alpha", "init_r", "init_lora_weights", "num_virtual_tokens"),
        *("save_projection", "vera_dropout"),
    }
)
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base's weights, so that the adapter fits no published one."""
INIT_R = 12
"""PEFT's default of AdaLoRA's rank before pruning."""


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
    modules, rest = _by_module(folder.tensors)
    dora = bool(config.get("use_dora"))
    updates: dict[str, Factors] = {}
    experts: dict[str, dict[int, Factors]] = {}
    nested: dict[str, list[tuple[mx.array, mx.array]]] = {}
    for module, parts in modules.items():
        _check_pair(parts, module, where)
        a, b = parts["lora_A"], parts["lora_B"]
        if (values := rest.pop(f"{module}.lora_E", None)) is not None:
            a = a * values.astype(mx.float32)
        name = module.replace(".base_layer", "")
        if name.endswith("experts") and f"{layout.renamed(name)}.weight" not in layout.moves:
            nested.setdefault(name, []).append((a, b))
            continue
        magnitude = rest.pop(f"{module}.lora_magnitude_vector", None)
        if magnitude is None:
            magnitude = rest.pop(f"{module}.lora_magnitude_vector.weight", None)
        if dora and magnitude is None:
            raise ConvertError(f"{where}: use_dora, but {module} has no lora_magnitude_vector.")
        if "embedding" in parts:
            a, b = b.T, a.T
            if magnitude is not None:
                raise ConvertError(
                    f"{where}: DoRA of the embedding {module} isn't built: PEFT scales its columns "
                    "there. Merge the adapter in PEFT, and import the result."
                )
        update = Factors(a, b, _scale(config, module, parts["rank"]), magnitude)
        move = layout.move(f"{name}.weight", where)
        if len(move.theirs) > 1:
            number = move.theirs.index(layout.renamed(f"{name}.weight"))
            for path in layout.layers(move):
                experts.setdefault(path, {})[number] = update
            continue
        updates |= _of_layers(layout, name, update, where)
    for path, expert_updates in experts.items():
        updates[path] = stacked_factors(expert_updates, layout.shapes[f"{path}.weight"], where)
    for module, pairs in nested.items():
        updates |= expert_factors(layout, module, pairs, partial(_scale, config), where)
    table = low_rank_table(
        "dora" if dora else "lora",
        updates,
        rslora=bool(config.get("use_rslora")),
        tied=bool(config.get("ensure_weight_tying")),
        dropout=float(config.get("lora_dropout") or 0.0),
    )
    return with_trained(folder, table, low_rank_weights(updates), rest)


def _of_layers(layout: Layout, module: str, update: Factors, where: str) -> dict[str, Factors]:
    factors = layout.factors(module, update.a, update.b, where)
    norms = {} if update.magnitude is None else layout.vectors(module, update.magnitude, where)
    return {
        path: Factors(parts["a"], parts["b"], update.scale, norms.get(path))
        for path, parts in factors.items()
    }


def _by_module(tensors: Mapping[str, mx.array]) -> tuple[dict[str, dict[str, Any]], Arrays]:
    """The factors `lora_A` and `lora_B` of each module, and the other tensors."""
    modules: dict[str, dict[str, Any]] = {}
    rest: Arrays = {}
    for name, array in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?", name)
        if match is None:
            rest[name] = array
            continue
        parts = modules.setdefault(match[1], {})
        parts[f"lora_{match[3]}"] = array.astype(mx.float32)
        if match[3] == "A":
            parts["rank"] = array.shape[0]
        if match[2]:
            parts["embedding"] = True
    return modules, rest


def _check_pair(parts: Mapping[str, Any], module: str, where: str) -> None:
    if not {"lora_A", "lora_B"} <= set(parts):
        raise ConvertError(f"{where}: {module} has one of the two factors lora_A and lora_B only.")
    if parts["lora_A"].shape[0] != parts["lora_B"].shape[1]:
        raise ConvertError(
            f"{where}: lora_A {list(parts['lora_A'].shape)} and lora_B "
            f"{list(parts['lora_B'].shape)} of {module} have no rank in common."
        )


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """The factor of a module's update: alpha / R, or alpha / √R.

    AdaLoRA's is that of its first rank, also after pruning (PEFT: `ranknum` stays `init_r`).
    """
    alpha = float(config["lora_alpha"])
    if config["peft_type"] == "ADALORA":
        first = float(config.get("init_r", INIT_R))
        return (alpha if alpha > 0 else rank) / (first + 1e-5)
    alpha = of_module(config, "alpha_pattern", module, alpha)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


KINDS: dict[str, Callable[[PeftFolder], Opened]] = {
    "LORA": _lora,
    "ADALORA": _lora,
    "LOHA": lambda folder: _lora(as_lora(folder)),
    "LOKR": lambda folder: _lora(as_lora(folder)),
    "LN_TUNING": peft_kinds.trained_parts,
    "TRAINABLE_TOKENS": peft_kinds.trained_parts,
    "IA3": peft_kinds.ia3,
    "VERA": peft_kinds.vera,
    "PROMPT_TUNING": peft_kinds.prompt,
    "P_TUNING": peft_kinds.prompt,
    "PREFIX_TUNING": peft_kinds.prefix,
}
"""The readers of PEFT's kinds."""
