"""Quantizes a run or a published model: `mlxt quantize`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, cast, get_args

import mlx.nn as nn

from ..compress.activation_scales import scale_and_clip
from ..compress.capture import is_router
from ..compress.fidelity import LOSSY, Fidelity
from ..compress.rounding import round_gptq, round_plain
from ..compress.sensitivity import allocate, costs_of
from ..core.errors import RecipeError, RunError, unknown
from ..core.messages import LogFn
from ..layers.linear import matrix
from ..layers.packed import (
    DTYPES,
    check_fit,
    divisible,
    packable,
    packed_layers,
    packed_table,
    stored,
)
from ..models.model import Model
from ..ops.packed import FIXED, GROUPS, Mode, Packing
from ..runs.folder import RUNS, RunFolder, check_new
from .derived_run import Origin, origin_of, write_run
from .gate import gate
from .text_sample import Sample, sample_text

Method = Literal["plain", "gptq", "awq", "mixed"]
TABLES = ("embed.table", "head")
"""Layers that are packed beside the linear layers of a stack."""


@dataclass(frozen=True)
class Settings:
    """How a model is quantized.

    Attributes:
        bits: of a weight; with `mixed` those of the plain model of the same size; None: 4, or what
            the mode has.
        group_size: weights that share a scale; None: 64, or what the mode has.
        mode: how codes become numbers.
        method: how weights are rounded.
        calibrate: a corpus or file that gptq, awq and mixed read; None: the run's data.
        layers: `PATTERN=BITS[:GROUP_SIZE[:MODE]]` or `PATTERN=no`, the last match counts.
        budget: bits per weight on average for `mixed`, scales included.
        dtype: of scales and offsets.
        anyway: write a result that is far from its source.
    """

    bits: int | None = None
    group_size: int | None = None
    mode: str = "affine"
    method: str = "plain"
    calibrate: str | None = None
    layers: Sequence[str] = ()
    budget: float | None = None
    dtype: str = "float16"
    anyway: bool = False

    def usual(self) -> Packing:
        """Return the packing of layers that no pattern names.

        Raises:
            RunError: there is no such packing, method or dtype.
        """
        if self.method not in get_args(Method):
            raise RunError(unknown("method", self.method, get_args(Method)))
        if self.dtype not in DTYPES:
            raise RunError(unknown("dtype", self.dtype, DTYPES))
        if self.budget is not None and self.method != "mixed":
            raise RunError("--budget has no effect without --method mixed.")
        return _packing(self.bits, self.group_size, self.mode)


def quantize(
    source: str,
    settings: Settings,
    *,
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
) -> tuple[RunFolder, Fidelity]:
    """Write a run with the weights of a source in few bits.

    Args:
        source: a run or one of its checkpoints, a published folder, or a GGUF file.
        settings: how.
        name: the new run's name; None takes the source's with the bits behind it.
        root: the folder of runs.
        say: reports progress.

    Returns:
        The new run, and how far it is from its source.

    Raises:
        MlxtError: the source can't be read, there is no such packing, a group doesn't divide a
            layer, the text is too short, or the result is too far from its source. Nothing is
            written then.
    """
    usual = settings.usual()
    check_new(name, root)
    with origin_of(source, root) as origin:
        before, model = origin.model(), origin.model()
        if next(packed_layers(model), None) is not None:
            raise RunError(f"{source} is quantized already: take the model that it was made of.")
        choices = choose(model, usual, settings.layers)
        if unpacked := [
            p for p, m in packable(model).items() if p not in choices and not divisible(m)
        ]:
            say(f"Layers that no group divides stay plain: {', '.join(unpacked)}.")
        text = sample_text(settings.calibrate, origin.recipe, origin.tokenizer, model.vocab_size)
        if settings.method == "mixed":
            choices = _mixed(model, choices, settings, usual, text, say)
        _round(model, choices, settings, text, say)
        cure = "Take more bits, or --method gptq, awq or mixed"
        difference = gate(before, model, text.held_out, LOSSY, cure, anyway=settings.anyway)
        table = packed_table(model, usual, choices, settings.dtype)
        table = table.model_copy(update={"source": str(origin.where)})
        folder = write_run(
            origin,
            name,
            f"{_stem(origin)}-{_label(settings, usual)}",
            {"packed": table.model_dump(exclude_none=True)},
            stored(model, settings.dtype),
            {"quantized": {"method": settings.method, **asdict(difference)}},
            root,
        )
    say(difference.line())
    return folder, difference


def choose(model: Model, usual: Packing, patterns: Sequence[str]) -> dict[str, Packing]:
    """Return the packing of each layer.

    The linear layers of stacks, the table of tokens and the head are packed, unless a pattern says
    otherwise; routers stay plain.

    Raises:
        RecipeError: a pattern can't be read or matches no layer, or a group doesn't divide one.
    """
    able = packable(model)
    chosen = {
        path: usual for path, layer in able.items() if _usually(path, layer) and divisible(layer)
    }
    for text in patterns:
        pattern, how = _pattern(text, usual)
        matched = [path for path in able if fnmatchcase(path, pattern)]
        if not matched:
            raise RecipeError(
                f"--layer {text}: no layer that can be packed matches '{pattern}'. mlxt show "
                "--modules lists the layers, such as stack.blocks.0.mixer.q."
            )
        for path in matched:
            if how is None:
                chosen.pop(path, None)
            else:
                chosen[path] = how
    if not chosen:
        raise RecipeError(
            "No layer is left to quantize: --layer leaves all of them plain, or their inputs are "
            f"no multiple of {min(GROUPS)}, the smallest group, as in a model that is too small."
        )
    for path, how in chosen.items():
        try:
            check_fit(path, able[path], how)
        except RecipeError as error:
            cure = f"With --layer '{path}=no' it stays plain."
            raise RecipeError(f"{error} {cure}") from None
    return chosen


def bits_per_weight(model: Model, choices: dict[str, Packing]) -> float:
    """Return the bits of a packed weight on average, scales included."""
    able = packable(model)
    sizes = {path: _size(able[path]) for path in choices}
    total = sum(sizes[path] * how.bits_per_weight for path, how in choices.items())
    return total / sum(sizes.values())


def _mixed(
    model: Model,
    choices: dict[str, Packing],
    settings: Settings,
    usual: Packing,
    text: Sample,
    say: LogFn,
) -> dict[str, Packing]:
    if usual.mode != "affine":
        raise RunError("--method mixed chooses bits of mode affine: leave --mode out.")
    patterns = [text.rpartition("=")[0] for text in settings.layers]
    free = [path for path in choices if not any(fnmatchcase(path, glob) for glob in patterns)]
    if not free:
        raise RunError("--method mixed chooses no bits, since --layer sets those of all layers.")
    able = packable(model)
    sizes = {path: _size(able[path]) for path in free}
    costs = costs_of(model, free, usual.group_size, text.calibration[:2])
    budget = usual.bits_per_weight if settings.budget is None else settings.budget
    chosen = choices | allocate(costs, sizes, budget)
    counts = {b: sum(how.bits == b for how in chosen.values()) for b in range(2, 9)}
    listed = ", ".join(f"{n} of {bits} bits" for bits, n in counts.items() if n)
    say(f"Layers: {listed}; {bits_per_weight(model, chosen):.2f} bits per weight")
    return chosen


def _round(
    model: Model, choices: dict[str, Packing], settings: Settings, text: Sample, say: LogFn
) -> None:
    if settings.method == "awq":
        scale_and_clip(model, choices, text.inputs, say)
    if settings.method in ("gptq", "mixed"):
        round_gptq(model, choices, text.inputs, settings.dtype, say)
    else:
        round_plain(model, choices, settings.dtype)


def _usually(path: str, layer: nn.Module) -> bool:
    return path in TABLES or not (isinstance(layer, nn.Embedding) or is_router(path, layer))


def _pattern(text: str, usual: Packing) -> tuple[str, Packing | None]:
    pattern, separator, how = text.rpartition("=")
    if not separator or not pattern:
        raise RecipeError(f"--layer {text}: write PATTERN=BITS[:GROUP_SIZE[:MODE]], or PATTERN=no.")
    if how == "no":
        return pattern, None
    bits, _, rest = how.partition(":")
    size, _, mode = rest.partition(":")
    mode = mode or usual.mode
    default = usual.group_size if mode == usual.mode else None
    try:
        return pattern, _packing(int(bits), int(size) if size else default, mode)
    except RunError as error:
        raise RunError(f"--layer {text}: {error}") from None
    except ValueError:
        raise RecipeError(
            f"--layer {text}: '{how}' is not BITS[:GROUP_SIZE[:MODE]], as in 6:32, nor no."
        ) from None


def _packing(bits: int | None, group_size: int | None, mode: str) -> Packing:
    """The packing of a mode; what is None is the mode's only one, or 4 bits in groups of 64."""
    usual = FIXED.get(mode, (4, 64))
    bits, size = (at if n is None else n for n, at in zip((bits, group_size), usual, strict=True))
    how = Packing(bits, size, cast(Mode, mode))
    if fault := how.fault():
        raise RunError(f"MLX has no such packing: {fault}.")
    return how


def _size(layer: nn.Module) -> int:
    return matrix(layer).size


def _stem(origin: Origin) -> str:
    return Path(origin.where).resolve().name.removesuffix(".gguf")


def _label(settings: Settings, usual: Packing) -> str:
    return usual.mode if usual.mode != "affine" else f"{settings.method}-{usual.bits}bit"
