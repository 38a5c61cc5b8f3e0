"""Published models: a folder or a GGUF file read as a model table, a module and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..convert.checkpoint import read_tensors
from ..convert.config import HfConfig, read_config
from ..convert.expert_stacks import unstacked
from ..convert.family import BUFFERS, Family, read, readable
from ..convert.gguf import read_gguf
from ..convert.packed import PackedTensor, packed_ours
from ..convert.quantized import decoded, packed_by_mlx
from ..convert.registry import family_of
from ..convert.sentence_transformers import sentence_pool
from ..convert.text_part import RENAMES, text_part
from ..convert.unit_offsets import without_offset
from ..convert.weights import renamed, to_ours
from ..core.errors import ConvertError, MlxtError
from ..data.tokenizers.gguf import read_metadata
from ..data.tokenizers.published import read_tokenizer
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.packed import DTYPES, Packed, pack_layers, packable, packed_table, set_parts
from ..models.model import Model, ModelKind
from ..recipe.config import Config
from ..recipe.load import resolve_data
from ..recipe.slot import Slot
from ..recipe.validate import typed
from . import registry as registry  # fills the slots before any schema is built

CONFIG = "config.json"
MIN_NUMBERS = 1 << 20
"""Sizes up to this are never compared with the tensors."""


class _ModelOnly(Config):
    """A recipe with a model and nothing else."""

    model: Annotated[ModelKind, Slot("model")]
    """The architecture."""


@dataclass(frozen=True)
class Published:
    """A model read from a published folder or file.

    Attributes:
        table: the `[model]` table of its recipe.
        model: the module with its weights, in float32.
        family: the family that it was read as.
        config: its config.json.
        packed: the `[packed]` table of its recipe, if weights are packed.
        left_out: the tensors that are no part of the language model, if that was read alone.
    """

    table: dict[str, Any]
    model: Model
    family: Family
    config: HfConfig
    packed: Packed | None = None
    left_out: tuple[str, ...] = ()


def read_published(
    folder: Path, config_file: str = CONFIG, *, text_only: bool = False
) -> Published:
    """Read the model of a folder with a config.json and safetensors.

    Args:
        folder: the folder.
        config_file: the name of its config.
        text_only: whether to read the language model of a model that also sees, alone.

    Raises:
        ConvertError: an unknown family, option or tensor, or a wrong shape; names it.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "doesn't exist"
        raise ConvertError(f"{folder} {what}: give a folder with a config.json, or a .gguf file.")
    if not (folder / config_file).is_file():
        if (folder / "recipe.toml").is_file():
            raise ConvertError(f"{folder} is a run already: take it where a RUN is asked for.")
        raise ConvertError(f"{folder} has no {config_file}: give the folder of a published model.")
    config, tensors = read_config(folder / config_file), read_tensors(folder)
    if not text_only:
        return published(config, tensors, str(folder), pool=sentence_pool(folder))
    text, own, left = text_part(config, tensors)
    found = published(text, own, str(folder))
    # adapters of the whole model have its names
    family = replace(found.family, renames=(*RENAMES, *found.family.renames))
    return replace(found, family=family, left_out=tuple(left))


def read_source(
    source: Path, packed: bool = False, text_only: bool = False
) -> tuple[Published, Tokenizer | None]:
    """Read the model and the tokenizer of a published folder, or of a GGUF file.

    Args:
        source: the folder or file.
        packed: whether quantized weights of a GGUF file stay packed where MLX's integers hold them
            exactly; those of mlx-lm's folders always do.
        text_only: whether to read the language model of a model that also sees, alone.

    Raises:
        MlxtError: as `read_published`, or the tokenizer can't be read, or nothing stays packed.
    """
    if not source.is_file():
        if packed:
            raise ConvertError(
                "--keep-packed goes with a .gguf file; of folders, those of mlx-lm stay packed "
                "without it."
            )
        return read_published(source, text_only=text_only), read_tokenizer(source)
    if text_only:
        raise ConvertError("--text-only goes with a folder; a .gguf holds a language model alone.")
    if source.suffix != ".gguf":
        raise ConvertError(f"{source} is a file, but no .gguf: give the folder around it.")
    gguf = read_gguf(source, packed)
    if packed and not gguf.packed:
        raise ConvertError(
            f"{source} has no tensors of the types Q4_0, Q4_1 and Q8_0, which stay packed: leave "
            "out --keep-packed, and pack the run with mlxt quantize."
        )
    model = published(gguf.config, gguf.tensors, str(source), gguf.family, packed=gguf.packed)
    return model, read_metadata(gguf.metadata)


def published(
    config: HfConfig,
    tensors: Mapping[str, mx.array],
    where: str,
    family: Family | None = None,
    pool: dict[str, Any] | None = None,
    packed: Mapping[str, PackedTensor] | None = None,
) -> Published:
    """Build a model from its config and its tensors under published names.

    Args:
        config: its config.json.
        tensors: by name.
        where: the file, as error messages name it.
        family: the family with the names of the file, if they aren't those of transformers.
        pool: the table of a pool that replaces the head and the pool of the config's class.
        packed: weights that stay packed, by name; None reads them from an mlx-lm folder's tensors.

    Raises:
        ConvertError: as `read_published`.
    """
    family = family or family_of(config)
    tensors = unstacked(tensors, config)
    if packed is None:
        packed = renamed(packed_by_mlx(tensors, config), family.renames, ())
    tensors = decoded(tensors, config)
    theirs = renamed(tensors, family.renames, (*BUFFERS, *family.dropped))
    if family.offset:
        theirs = without_offset(theirs, family.offset)
    config.tensors = frozenset(theirs)
    table, weights = read(family, config)
    if pool is not None:
        table = {key: value for key, value in table.items() if key != "head"} | {"pool": pool}
    check_layers(table, where, len(theirs))
    model = build(table, where, sum(array.size for array in theirs.values()))
    shapes = {name: array.shape for name, array in tree_flatten(model.parameters())}
    with readable(config, family.name):
        ours = to_ours(
            weights, shapes, theirs, where=where, spare=family.spare, tied=dict(family.tied)
        )
    _check_finite(ours, where)
    model.update(tree_unflatten(list(ours.items())))
    settings = None
    if packed:
        able = packable(model)
        of_layers = packed_ours(weights, ours, packed).items()
        kept = {name: t for name, t in of_layers if name.removesuffix(".weight") in able}
        settings = keep_packed(model, kept)
    mx.eval(model.parameters())
    return Published(table, model, family, config, settings)


def keep_packed(model: Model, packed: Mapping[str, PackedTensor]) -> Packed | None:
    """Put packed weights into a model that holds them dequantized.

    Returns:
        The table `[packed]` of its recipe; None if no weight stays packed.
    """
    if not packed:
        return None
    hows = {name.removesuffix(".weight"): tensor.how for name, tensor in packed.items()}
    every = list(hows.values())
    usual = max(dict.fromkeys(every), key=every.count)
    dtypes = [t.parts[1].dtype for t in packed.values() if len(t.parts) == 3]
    pack_layers(model, hows)
    for name, tensor in packed.items():
        set_parts(model, name.removesuffix(".weight"), tensor.parts)
    return packed_table(model, usual, hows, next((n for n in DTYPES if DTYPES[n] in dtypes), None))


def _check_finite(weights: Mapping[str, mx.array], where: str) -> None:
    """Refuse weights with NaN or infinity, from which no number would come out.

    Raises:
        ConvertError: names the first array.
    """
    finite = {name: mx.isfinite(array).all() for name, array in weights.items()}
    mx.eval(finite)
    if names := [name for name, fine in finite.items() if not fine.item()]:
        more = f" and in {len(names) - 1} more" if len(names) > 1 else ""
        raise ConvertError(
            f"{where} holds NaN or infinity in {names[0]}{more}: its training diverged, or the "
            "file is damaged. Download it again, or take an earlier checkpoint of the model."
        )


def check_layers(table: Mapping[str, Any], where: str, n_tensors: int) -> None:
    """Refuse a table with more layers than the file has tensors.

    Raises:
        ConvertError: layers without a tensor.
    """
    for value in table.values():
        if isinstance(value, Mapping):
            check_layers(value, where, n_tensors)
    n_layers = table.get("n_distinct") or table.get("n_layers") or 0
    if isinstance(n_layers, int) and n_layers > n_tensors:
        raise ConvertError(
            f"{where}: {n_layers:,} layers don't fit {n_tensors:,} tensors. "
            "Either config.json belongs to another model, or leaves out how many layers this has "
            "(num_hidden_layers), or files of weights are missing."
        )


def widths(table: Mapping[str, Any]) -> list[Any]:
    """The widths of a model and of the models within it; None for a model without one."""
    inner = [value for value in table.values() if isinstance(value, Mapping) and "dim" in value]
    within = [width for value in inner for width in widths(value)]
    return [table["dim"], *within] if "dim" in table else within or [None]


def build(table: dict[str, Any], where: str, numbers: int) -> Model:
    """Build the module of a `[model]` table for a file with so many numbers in its tensors.

    Raises:
        ConvertError: its sizes are none of a model, or far beyond those of the tensors.
    """
    sizes = [("vocab_size", table.get("vocab_size")), *(("dim", dim) for dim in widths(table))]
    for key, size in sizes:
        if not isinstance(size, int) or not 0 < size <= max(numbers, MIN_NUMBERS):
            raise ConvertError(
                f"{where}: {key} = {size} doesn't belong to a file with {numbers:,} numbers."
            )
    try:
        return typed_model(table, where).build(table["vocab_size"])
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, MlxtError):
            raise
        raise ConvertError(f"{where}: a model of these sizes can't be built ({error}).") from error


def typed_model(table: dict[str, Any], where: str) -> ModelKind:
    """Return the typed model config of a `[model]` table.

    Raises:
        RecipeError: an unknown kind, key or value.
    """
    return typed(_ModelOnly, resolve_data({"model": table}, where)).model


def full_model_table(model: ModelKind, vocab_size: int) -> dict[str, Any]:
    """Return a model config as a `[model]` table with all defaults and the vocabulary size."""
    return {**model.model_dump(), "vocab_size": vocab_size}


def target_start(source: Published) -> str | None:
    """Return the token that targets begin with: the end in BART, padding in T5.

    None for a model that writes no targets, or whose config names no token.
    """
    if "seq2seq" not in source.model.tasks:
        return None
    data = source.config.data
    start = data.get("decoder_start_token_id")
    names = {data.get("pad_token_id"): "pad", data.get("eos_token_id"): "end"}
    return None if start is None else names.get(start, "start")
