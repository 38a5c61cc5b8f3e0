"""From a published folder to a model: the recipe's model table, the module, its weights."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.recipe import Recipe
from ..convert.checkpoint import read_tensors
from ..convert.config import HfConfig, read_config
from ..convert.family import BUFFERS, Family, read
from ..convert.gguf import read_gguf
from ..convert.known import family_of
from ..convert.sentences import sentence_pool
from ..convert.weights import renamed, to_ours
from ..core.device import facts
from ..core.errors import ConvertError
from ..data.tokenizers.gguf import read_metadata
from ..data.tokenizers.hf import HfTokenizer
from ..data.tokenizers.numbers import NumberTokenizer
from ..data.tokenizers.published import read_tokenizer
from ..data.tokenizers.tokenizer import Tokenizer
from ..recipe.config import Config, Kind
from ..recipe.load import resolve_data
from ..recipe.slot import Slot
from ..recipe.toml import to_toml
from ..recipe.validate import typed
from ..runs import checkpoint
from ..runs.durable import replace_text
from ..runs.folder import RUNS, RunFolder, check_new, create
from ..runs.progress import Progress

CONFIG = "config.json"
TASKS = {"decoder": ("clm", "rows"), "encoder_decoder": ("seq2seq", "span_corruption")}
"""What a model of each kind would be trained on further: objective, and kind of batch."""
MASKED = ("mlm", "mlm")
"""The same for encoders whose head writes words."""
SEQ_LEN = 512
"""Tokens of a row in an imported run's recipe, where the context is longer."""


class _ModelOnly(Config):
    """A recipe of which only the model is known."""

    model: Annotated[Kind, Slot("model")]
    """The architecture."""


@dataclass(frozen=True)
class Published:
    """A model that was read from a published folder.

    Attributes:
        table: the `[model]` table of its recipe.
        model: the module with its weights, in float32.
        family: how it was read.
        config: its config.json.
    """

    table: dict[str, Any]
    model: Any
    family: Family
    config: HfConfig


def read_published(folder: Path, config_file: str = CONFIG) -> Published:
    """The model of a folder with a config.json and safetensors.

    Raises:
        ConvertError: a family, an option, a tensor or a shape that isn't known; always named.
    """
    if not folder.is_dir():
        raise ConvertError(f"{folder} is not a folder.")
    config, tensors = read_config(folder / config_file), read_tensors(folder)
    return published(config, tensors, str(folder), pool=sentence_pool(folder))


def read_source(source: Path) -> tuple[Published, Tokenizer | None]:
    """The model and the tokenizer of a published folder, or of a GGUF file.

    Raises:
        MlxtError: as `read_published`, or the tokenizer can't be read.
    """
    if not source.is_file():
        return read_published(source), read_tokenizer(source)
    if source.suffix != ".gguf":
        raise ConvertError(f"{source} is a file, but no .gguf: give the folder around it.")
    config, tensors, family, metadata = read_gguf(source)
    return published(config, tensors, str(source), family), read_metadata(metadata)


def published(
    config: HfConfig,
    tensors: dict[str, mx.array],
    where: str,
    family: Family | None = None,
    pool: dict[str, Any] | None = None,
) -> Published:
    """The model that a config and tensors under published names are.

    Args:
        config: its config.json.
        tensors: by name.
        where: how to call their file in a sentence.
        family: what maps the names, where it isn't what the config says.
        pool: the table of a pool that stands for the head and the pool of the config's class.

    Raises:
        ConvertError: as `read_published`.
    """
    family = family or family_of(config)
    theirs = renamed(tensors, family.renames, (*BUFFERS, *family.dropped))
    config.tensors = frozenset(theirs)
    table, weights = read(family, config)
    if pool is not None:
        table = {key: value for key, value in table.items() if key != "head"} | {"pool": pool}
    typed_table = typed_model(table, where)
    model = typed_table.build(typed_table.vocab_size)
    shapes = {name: array.shape for name, array in tree_flatten(model.parameters())}
    ours = to_ours(weights, shapes, theirs, where=where, spare=family.spare, tied=dict(family.tied))
    model.update(tree_unflatten(list(ours.items())))
    mx.eval(model.parameters())
    return Published(table, model, family, config)


def typed_model(table: dict[str, Any], where: str) -> Any:
    """The model config of a `[model]` table.

    Raises:
        RecipeError: the table says what no kind has.
    """
    recipe: Any = typed(_ModelOnly, resolve_data({"model": table}, where))
    return recipe.model


def settled(model: Any, vocab_size: int) -> dict[str, Any]:
    """A model config as a `[model]` table with every default and the vocabulary filled in."""
    return {**model.model_dump(), "vocab_size": vocab_size}


def import_run(source: Path, name: str | None = None, root: Path = RUNS) -> RunFolder:
    """Make a run of a published model: its recipe, its tokenizer, and a checkpoint of step 0.

    Args:
        source: a folder with a config.json and safetensors, or a GGUF file.
        name: the run's name; None takes the folder's, with a number if that is taken.
        root: the folder of runs.

    Raises:
        MlxtError: the model or its tokenizer can't be read, or a run of that name exists. Then
            nothing is left behind.
    """
    check_new(name, root)
    found, tokenizer = read_source(source)
    tokenizer = tokenizer or NumberTokenizer(found.table["vocab_size"])
    folder = create(name, _stem(source), root)
    try:
        _write(folder, found, tokenizer, str(source))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def _write(folder: RunFolder, found: Published, tokenizer: Tokenizer, source: str) -> None:
    context, head = found.table["max_seq_len"], found.table.get("head") or {}
    task = MASKED if head.get("kind") == "mlm" else TASKS.get(found.table["kind"], TASKS["decoder"])
    rest = {
        "objective": {"kind": task[0]},
        "data": {
            "corpus": "stdlib",
            "batch": {"kind": task[1], **_target_start(found)},
            "tokenizer": _tokenizer_table(tokenizer, folder),
        },
        "train": {"steps": 1000, "batch_size": 8, "seq_len": min(SEQ_LEN, context)},
        "optim": {"kind": "adamw", "learning_rate": 1e-5},
        "eval": {"every": 100},
        "checkpoint": {"every": 100},
    }
    recipe = resolve_data({"model": found.table, **rest}, source)
    typed(Recipe, recipe)  # whatever is wrong with it is said now
    header = f"# Imported from {source}: a {found.family.name} of {found.config.where}.\n"
    folder.describe(header + to_toml(recipe.data), facts() | {"imported": source})
    folder.keep_tokenizer(tokenizer.save)
    replace_text(folder.path / CONFIG, json.dumps(found.config.data, indent=2) + "\n")
    state = Progress().to_dict() | {"data": None}
    checkpoint.save(folder.checkpoints, 0, {"model": found.model.parameters()}, state, best=True)


def _target_start(found: Published) -> dict[str, str]:
    """What the target of an encoder-decoder begins with: BART takes the end, T5 the padding."""
    if found.table["kind"] != "encoder_decoder":
        return {}
    told = found.config.data
    start = told.get("decoder_start_token_id")
    names = {told.get("pad_token_id"): "pad", told.get("eos_token_id"): "end"}
    return {"start": names.get(start, "start")} if start is not None else {}


def _tokenizer_table(tokenizer: Tokenizer, folder: RunFolder) -> dict[str, Any]:
    """The tokenizer as a recipe says it: the file that the run itself keeps."""
    if isinstance(tokenizer, NumberTokenizer):
        return {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
    table = {"kind": tokenizer.kind, "path": str(folder.tokenizer / tokenizer.payload)}
    if isinstance(tokenizer, HfTokenizer):
        table |= {k: v for k, v in (("bos", tokenizer.bos), ("eos", tokenizer.eos)) if v}
    return table


def _stem(source: Path) -> str:
    return source.resolve().name.removesuffix(".gguf")
