"""Writes a run as files that transformers, mlx-lm or llama.cpp open."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..assembly.published import CONFIG, full_model_table, read_source, typed_model
from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..compress.fidelity import FAITHFUL, LOSSY, Bounds
from ..convert.checkpoint import write_tensors
from ..convert.config import HfConfig
from ..convert.family import Family, read
from ..convert.flat_model import FlatModel
from ..convert.fold_scale import fold_scales
from ..convert.gguf import architecture_for, as_gguf, check_mixers, write_gguf
from ..convert.gguf_writer import QUANTIZE
from ..convert.match import match, write_config
from ..convert.mlx_lm import reading
from ..convert.packed import PackedTensor, packed_theirs, quantization_table, with_parts
from ..convert.weights import to_theirs
from ..core.errors import ConvertError, unknown
from ..core.messages import LogFn
from ..core.parse import read_table
from ..core.paths import inside, plain_name
from ..core.task import Task
from ..data.tokenizers.gguf import unlike, write_metadata
from ..data.tokenizers.published import control_tokens, tokenizer_files
from ..data.tokenizers.tokenizer import Tokenizer
from ..layers.packed import plain_parameters, stored_parts
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, RunFolder, find_checkpoint
from .export_adapter import write_adapter
from .gate import gate, rows_for

MULTI_TOKEN = "ahead."
"""Prefix of the parameters of multi-token prediction."""
READ_TOKENS: frozenset[Task] = frozenset({"causal_lm", "seq2seq", "encode", "detect_replaced"})
"""Tasks of models that read tokens alone, which are compared with what was written."""
CURE = "Export with --dtype float32, or more bits"
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


@dataclass(frozen=True)
class Exportable:
    """A run under published names.

    Attributes:
        table: its resolved `[model]` table.
        family: the family that it is published as.
        config: its config.json.
        parameters: its weights under our names, in float32.
        tokenizer: its tokenizer.
        packed: its packed weights under our names; `parameters` has them dequantized.
    """

    table: dict[str, Any]
    family: Family
    config: dict[str, Any]
    parameters: dict[str, mx.array]
    tokenizer: Tokenizer
    packed: dict[str, PackedTensor] = field(default_factory=dict)

    def tensors(self, family: Family | None = None) -> dict[str, mx.array]:
        """Return its weights under the names of `family`, in the dtype that the config names.

        Raises:
            ConvertError: a weight is beyond the range of that dtype.
        """
        _, weights = read(family or self.family, HfConfig(self.config))
        theirs = to_theirs(weights, self.parameters)
        return {name: in_range(name, array, self.config["dtype"]) for name, array in theirs.items()}

    def packed_tensors(self) -> dict[str, PackedTensor]:
        """Return its packed weights by published name, where the layout allows it."""
        if not self.packed:
            return {}
        _, weights = read(self.family, HfConfig(self.config))
        return dict(packed_theirs(weights, self.parameters, self.packed))


def in_range(name: str, array: mx.array, dtype: str) -> mx.array:
    """Return an array in another dtype.

    Raises:
        ConvertError: a finite number of it is infinite there.
    """
    cast = array.astype(DTYPES[dtype])
    if dtype == "float16" and mx.any(mx.isinf(cast) & mx.isfinite(array)):
        largest = mx.max(mx.where(mx.isfinite(array), mx.abs(array), 0)).item()
        raise ConvertError(
            f"The tensor {name} holds {largest:,.6g}, and float16 ends at 65,504, so it would be "
            "written as infinity. Export with --dtype float32, or bfloat16 where the format has it."
        )
    return cast


def export_run(
    run: str | Path | None,
    to: str,
    out: Path,
    *,
    root: Path = RUNS,
    dtype: str | None = None,
    context: int | None = None,
    quantize: str | None = None,
    gelu_tanh: bool = False,
    anyway: bool = False,
    say: LogFn = lambda text: None,
) -> Path:
    """Write a run's best checkpoint, or the one named, for another library.

    A model is read again from what was written and compared with the run before it is put in place.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        to: "hf", "mlx-lm" or "gguf"; of a run with adapters "peft" or "mlx-lm" writes these alone.
        out: the folder to make, or for gguf the file; it must not exist.
        root: the folder of runs.
        dtype: of the weights; None keeps that of the model that was imported, else float32.
        context: a shorter longest sequence.
        quantize: the type of most weights of a GGUF file, `q8_0` or `q4_0`.
        gelu_tanh: write a GGUF file even where llama.cpp has the tanh approximation of GELU alone.
        anyway: put a model in place even if it is far from the run.
        say: reports how far it is.

    Raises:
        MlxtError: the format cannot express the model; the message names the feature. Or the model
            is too far from the run.
    """
    if to not in (*TARGETS, "peft"):
        raise ConvertError(unknown("format", to, [*TARGETS, "peft"]))
    if out.exists():
        raise ConvertError(f"{out} exists already. Choose another --out, or remove it yourself.")
    _check_gguf(to, quantize, dtype, gelu_tanh)
    folder, saved = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe)
    if adapters := recipe.adapt is not None or to == "peft":
        write: Callable[[Path], None] = partial(write_adapter, folder, saved, to)
    elif to == "gguf":
        check_mixers(recipe.model.model_dump())
        exported = exportable(run, root, "float32" if quantize else dtype, context)
        write = partial(write_llama_cpp, exported, quantize=quantize, gelu_tanh=gelu_tanh, say=say)
    else:
        write = partial(TARGETS[to], exportable(run, root, dtype, context))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
            unfinished = Path(staging) / ("model.gguf" if to == "gguf" else out.name)
            write(unfinished)
            if not adapters:
                _compare(folder, saved, unfinished, LOSSY if quantize else FAITHFUL, anyway, say)
            _publish(unfinished, out)
    except OSError as error:
        reason = error.strerror or error
        raise ConvertError(f"{out} can't be written: {reason}. Choose another --out.") from error
    return out


def _check_gguf(to: str, quantize: str | None, dtype: str | None, gelu_tanh: bool) -> None:
    """Refuse options of GGUF files in another format, and a type that doesn't exist."""
    if gelu_tanh and to != "gguf":
        raise ConvertError("--gelu-tanh goes with --to gguf: other formats have the exact GELU.")
    if quantize is None:
        return
    if to != "gguf":
        raise ConvertError(
            "--quantize goes with --to gguf. For mlx-lm quantize the run first (mlxt quantize), "
            "and export that: its weights stay packed."
        )
    if quantize not in QUANTIZE:
        raise ConvertError(unknown("type of quantized GGUF files", quantize, QUANTIZE))
    if dtype is not None:
        raise ConvertError(
            "--dtype and --quantize don't go together: a quantized file has its own dtypes, and "
            "float32 for vectors."
        )


def _compare(
    folder: RunFolder, saved: Path, written: Path, bounds: Bounds, anyway: bool, say: LogFn
) -> None:
    """Compare a run with the files that were written of it.

    Raises:
        RunError: they are too far apart, and `anyway` doesn't ask for them.
    """
    live, tokenizer = load(saved)
    if not live.tasks & READ_TOKENS:
        return
    again = read_source(written)[0].model
    recipe = load_recipe(folder.recipe).stage(step_of(saved), saved=True)
    rows, text = rows_for(recipe, tokenizer, again)
    difference = gate(live, again, rows, bounds, CURE, anyway=anyway, text=text)
    say(difference.line())


def _publish(partial: Path, out: Path) -> None:
    """Move a finished export to its place.

    Raises:
        ConvertError: something has been put there since the export began.
    """
    try:
        if partial.is_dir():
            os.rename(partial, out)
        else:
            os.link(partial, out)
    except OSError as error:
        if out.exists():
            raise ConvertError(f"{out} exists already. Choose another --out.") from error
        os.rename(partial, out)  # a file system without links


def exportable(
    run: str | Path | None, root: Path = RUNS, dtype: str | None = None, context: int | None = None
) -> Exportable:
    """Return a run under the names and in the layout of the family that it belongs to.

    Raises:
        MlxtError: there is no such run, or its model belongs to no family.
    """
    folder, checkpoint = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe).stage(step_of(checkpoint), saved=True)
    model, tokenizer = load(checkpoint)
    kind, ours = recipe.model.without_helpers(plain_parameters(model))
    packed = {
        f"{path}.weight": PackedTensor(parts, how)
        for path, parts, how in stored_parts(model, recipe.packed)
    }
    table = full_model_table(kind, model.vocab_size)
    if context is not None:
        table = _shorter(table, context)
    came_with = folder.path / CONFIG
    original = read_table(came_with) if came_with.is_file() else None
    family, written = match(table, lambda t: _settle(t, str(folder.path)), original)
    # Libraries disagree on defaults, so every option is written out.
    config = {**(write_config(family, table) or {}), **written.data}
    if dtype is None:
        came_in = config.get("dtype") or config.get("torch_dtype")
        dtype = came_in if came_in in DTYPES else "float32"  # quantized models have others
    if dtype not in DTYPES:
        raise ConvertError(unknown("dtype", str(dtype), DTYPES))
    if original is None:
        begins = recipe.data.batch.begins if "seq2seq" in model.tasks else None
        # Their default is often beyond the vocabulary.
        control_ids = {"pad_token_id": None, **control_tokens(tokenizer, begins)}
        config = {**control_ids, **config, "use_cache": True}
    config["dtype"] = config["torch_dtype"] = dtype
    theirs = parameters(ours, table, family, written.data)
    return Exportable(table, family, config, theirs, tokenizer, packed)


def parameters(
    ours: dict[str, mx.array], table: dict[str, Any], family: Family, config: dict[str, Any]
) -> dict[str, mx.array]:
    """Return a model's parameters as its family has them.

    Biases and token types that only the family has are zeros; multi-token prediction, which served
    the training, is left out if the family has none.
    """
    twin = typed_model(family.table(HfConfig(config)), family.name)
    vocab_size = table["vocab_size"]
    theirs = full_model_table(twin, vocab_size)
    zeros = {
        name: mx.zeros(array.shape)
        for name, array in tree_flatten(twin.build(vocab_size).parameters())
        if name.endswith((".bias", "embed.types.weight")) and not name.startswith(MULTI_TOKEN)
    }
    weights = ours if theirs.get("ahead") else without_multi_token(ours)
    return zeros | fold_scales(weights, table, theirs)


def without_multi_token(parameters: dict[str, mx.array]) -> dict[str, mx.array]:
    """Return parameters without those of multi-token prediction, which only training uses."""
    return {name: array for name, array in parameters.items() if not name.startswith(MULTI_TOKEN)}


def write_hf(run: Exportable, folder: Path) -> None:
    """Write a folder that transformers opens."""
    _write(folder, run.config, run.tensors(), run.tokenizer)


def write_mlx_lm(run: Exportable, folder: Path) -> None:
    """Write a folder that mlx-lm opens."""
    view = FlatModel(run.table)
    how = reading(run.family, view)
    config = run.config | how.keys(view, run.config)
    run = replace(run, parameters=without_multi_token(run.parameters))
    tensors, packed = run.tensors(), run.packed_tensors()
    if packed:
        tensors = with_parts(tensors, packed)
        names = {name.removeprefix(how.rename): tensor for name, tensor in packed.items()}
        config["quantization"] = config["quantization_config"] = quantization_table(names)
    tensors = {name.removeprefix(how.rename): array for name, array in tensors.items()}
    _write(folder, config, tensors, run.tokenizer, "mlx")


def write_llama_cpp(
    run: Exportable,
    path: Path,
    quantize: str | None = None,
    gelu_tanh: bool = False,
    say: LogFn = lambda text: None,
) -> None:
    """Write a file that llama.cpp opens, its matrices quantized on request.

    The exact GELU becomes its tanh approximation with `gelu_tanh` alone. `say` is told where the
    tokenizer is another one there.

    Raises:
        ConvertError: llama.cpp lacks something of this model.
    """
    family = as_gguf(HfConfig(run.config), gelu_tanh)
    window = FlatModel(run.table).get("block.mixer.window")
    _, architecture = architecture_for(HfConfig(run.config))
    beyond = isinstance(window, int) and window < run.table["max_seq_len"]
    if beyond and not architecture.windows:
        raise ConvertError(
            f"llama.cpp has no sliding window for this family, so from token {window + 1} on it "
            f"would see what this model doesn't. With --context {window} the export ends there."
        )
    if run.config["dtype"] == "bfloat16":
        raise ConvertError(
            "A GGUF file is written in float32 or float16, not in bfloat16. --dtype float32 holds "
            "the same numbers exactly."
        )
    tokenizer = write_metadata(run.tokenizer, run.table["vocab_size"])
    if told := unlike(run.tokenizer):
        say(told)
    config = settled(run.config, write_config(run.family, run.table) or {})
    write_gguf(path, config, run.tensors(family), tokenizer, quantize)


def settled(config: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose nulls and words are the numbers and lists that the model has.

    A published config may leave a width to its library, as `n_inner = null` or `time_step_rank =
    "auto"`, or the layers with a window; a GGUF file has to tell them.
    """
    return config | {
        key: value
        for key, value in found.items()
        if isinstance(value, int | float | list) and isinstance(config.get(key, ""), str | None)
    }


TARGETS: dict[str, Callable[[Exportable, Path], None]] = {
    "hf": write_hf,
    "mlx-lm": write_mlx_lm,
    "gguf": write_llama_cpp,
}
"""The formats, and their writers."""


def _write(
    folder: Path,
    config: Mapping[str, Any],
    tensors: dict[str, mx.array],
    tokenizer: Tokenizer,
    made_for: str = "pt",
) -> None:
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, content in tokenizer_files(tokenizer).items():
        file = inside(folder, plain_name(name, "a tokenizer file", ConvertError), ConvertError)
        if file.exists() or name.startswith("model."):
            raise ConvertError(f"The run's tokenizer has a file called {name}, as a model has.")
        file.write_bytes(content)
    write_tensors(folder, tensors, made_for)


def _settle(table: dict[str, Any], where: str) -> dict[str, Any]:
    return full_model_table(typed_model(table, where), table["vocab_size"])


def _shorter(table: dict[str, Any], context: int) -> dict[str, Any]:
    if not 1 <= context <= table["max_seq_len"]:
        raise ConvertError(
            f"--context {context} is not within this model's {table['max_seq_len']} tokens."
        )
    if table["position"]["kind"] == "learned" and context < table["max_seq_len"]:
        raise ConvertError("A model with learned positions keeps its context: leave --context out.")
    return table | {"max_seq_len": context}
