"""Prunes a run or a published model: `mlxt prune`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.published import typed_model
from ..assembly.saved import load
from ..compress.capture import linear_layers, weight_layers
from ..compress.channels import channel_scores, narrower_stream, narrower_table
from ..compress.fidelity import LOSSY, Fidelity
from ..compress.structured import (
    block_influence,
    fewer_heads,
    fewer_layers,
    head_scores,
    hidden_scores,
    narrower_ffns,
)
from ..compress.unstructured import (
    NofM,
    prune_magnitude,
    prune_sparsegpt,
    prune_wanda,
    zeros,
)
from ..core.errors import RecipeError, RunError, unknown
from ..core.messages import LogFn
from ..layers.counts import count
from ..layers.linear import matrix
from ..models.model import Model, layers_of
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, RunFolder, check_new
from .derived_run import Origin, model_table, origin_of, write_run
from .gate import gate
from .text_sample import Sample, sample_text

Method = Literal["magnitude", "magnitude_global", "wanda", "sparsegpt"]


@dataclass(frozen=True)
class Settings:
    """Choice of the weights or parts to remove.

    Attributes:
        method: how single weights are chosen.
        sparsity: share of single weights; None: none.
        n_of_m: keep n of every m inputs instead, `N:M`.
        heads: heads with keys of their own that stay in each layer; None: all.
        hidden: hidden features that stay in each ffn; None: all.
        dim: channels of the residual stream that stay; None: all.
        layers: layers that stay, a count, or the numbers of those that go, as "3,5"; None: all.
        calibrate: a corpus or file that is read; None: the run's data.
        rewind: the step of the source's checkpoint whose values the remaining weights get; None:
            they keep their own.
        anyway: write a result that is far from its source.
    """

    method: str = "magnitude"
    sparsity: float | None = None
    n_of_m: str | None = None
    heads: int | None = None
    hidden: int | None = None
    dim: int | None = None
    layers: str | None = None
    calibrate: str | None = None
    rewind: int | None = None
    anyway: bool = False

    def check(self) -> NofM | None:
        """Return n and m, if they are given.

        Raises:
            RunError: an unknown method, an impossible share, or nothing to do.
        """
        if self.method not in get_args(Method):
            raise RunError(unknown("method", self.method, get_args(Method)))
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise RunError(
                f"--sparsity {self.sparsity:g} is no share between 0 and 1: 0.5 sets half of the "
                "weights to 0."
            )
        parts = (self.heads, self.hidden, self.dim, self.layers)
        smaller = any(size is not None for size in parts)
        if self.sparsity is None and self.n_of_m is None and not smaller:
            raise RunError(
                "Say what goes: --sparsity S or --n-of-m N:M for single weights, or --heads, "
                "--hidden, --dim and --layers for a smaller model."
            )
        if self.sparsity is not None and self.n_of_m is not None:
            raise RunError("--sparsity and --n-of-m both choose the weights that go: give one.")
        if self.method != "magnitude" and self.sparsity is None and self.n_of_m is None:
            raise RunError(
                f"--method {self.method} chooses single weights: give --sparsity or --n-of-m, too, "
                "or leave it out."
            )
        if self.rewind is not None and smaller:
            raise RunError(
                "--rewind goes with --sparsity or --n-of-m: earlier checkpoints have all heads, "
                "hidden features, channels and layers."
            )
        return None if self.n_of_m is None else _n_of_m(self.n_of_m)


def prune(
    source: str,
    settings: Settings,
    *,
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
) -> tuple[RunFolder, Fidelity]:
    """Write a run with fewer weights than its source.

    Single weights become 0 and stay so in later training (`[prune]`); heads, hidden features and
    layers leave a smaller model. With `rewind` the weights that remain go back to an earlier
    checkpoint (the lottery ticket of Frankle and Carbin 2018, rewound as in Frankle et al. 2019),
    for training from there; the comparison is that of the model before it.

    Args:
        source: a run or one of its checkpoints, a published folder, or a GGUF file.
        settings: what goes.
        name: the new run's name; None takes the source's with "-pruned" behind it.
        root: the folder of runs.
        say: reports progress.

    Returns:
        The new run, and how far it is from its source.

    Raises:
        MlxtError: the source can't be read, all heads or layers would go, the text is too short, or
            the result is too far from its source. Nothing is written then.
    """
    n_of_m = settings.check()
    check_new(name, root)
    with origin_of(source, root) as origin:
        early = None if settings.rewind is None else earlier(origin, settings.rewind)
        before, model = origin.plain_model("prune"), origin.model()
        text = sample_text(settings.calibrate, origin.recipe, origin.tokenizer, model.vocab_size)
        model, changes = _smaller(origin, model, settings, text, say)
        if settings.sparsity is not None or n_of_m is not None:
            _sparse(model, settings, n_of_m, text, say)
            say(f"Zeros in linear layers: {zeros(weight_layers(model)):.1%}")
            changes["prune"] = {"sparsity": 0.0}
        difference = gate(before, model, text.held_out, LOSSY, "Prune less", anyway=settings.anyway)
        about = {
            "pruned": {"method": settings.method, "rewind": settings.rewind, **asdict(difference)}
        }
        if early is not None:
            _rewind(model, early)
        stem = f"{Path(origin.where).resolve().name}-pruned"
        folder = write_run(origin, name, stem, changes, model.parameters(), about, root)
    say(difference.line())
    return folder, difference


def earlier(origin: Origin, step: int) -> Model:
    """The model of an earlier checkpoint of a run.

    Raises:
        RunError: there is none of that step, or its model has other sizes.
    """
    places = {step_of(path): path for path in origin.folder.checkpoints.glob("step-*")}
    if step not in places:
        steps = ", ".join(map(str, sorted(places)))
        raise RunError(
            f"--rewind {step}: {origin.where} has no checkpoint of step {step}; there are {steps}. "
            "checkpoint.every and checkpoint.keep say which ones training keeps."
        )
    model = load(places[step])[0]
    if shapes(model) != shapes(origin.model()):
        raise RunError(f"--rewind {step}: the model had other sizes then.")
    return model


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by path."""
    return {name: array.shape for name, array in tree_flatten(model.parameters())}


def _rewind(model: Model, early: Model) -> None:
    """Give a pruned model the parameters of an earlier one, but for its zeros."""
    masks = {path: matrix(layer) != 0 for path, layer in weight_layers(model).items()}
    model.update(early.parameters())
    for path, layer in weight_layers(model).items():
        layer["weight"] = mx.where(masks[path], matrix(layer), 0)


def _sparse(
    model: Model, settings: Settings, n_of_m: NofM | None, text: Sample, say: LogFn
) -> None:
    layers, share = weight_layers(model), settings.sparsity or 0.0
    if settings.method in ("wanda", "sparsegpt") and layers.keys() - linear_layers(model):
        say(f"Experts are pruned by magnitude: {settings.method} doesn't record their inputs.")
    if n_of_m is not None:
        for path, layer in layers.items():
            if layer["weight"].shape[-1] % n_of_m[1]:
                raise RecipeError(
                    f"The layer {path} has {layer['weight'].shape[-1]} inputs, which don't divide "
                    f"into groups of {n_of_m[1]}: take another --n-of-m, or --sparsity."
                )
    if settings.method == "wanda":
        prune_wanda(model, layers, share, n_of_m, text.inputs)
    elif settings.method == "sparsegpt":
        prune_sparsegpt(model, layers, share, n_of_m, text.inputs)
    else:
        together = settings.method == "magnitude_global"
        prune_magnitude(layers, share, n_of_m, together=together)


def _smaller(
    origin: Origin, model: Model, settings: Settings, text: Sample, say: LogFn
) -> tuple[Model, dict[str, Any]]:
    """The model without heads, hidden features and layers that go, and the tables that change."""
    table, weights = model_table(origin, model), dict(tree_flatten(model.parameters()))
    parts = (settings.heads, settings.hidden, settings.dim, settings.layers)
    if all(size is None for size in parts):
        return model, {}
    before = sizes(model)
    if settings.layers is not None:
        removed = _gone(settings.layers, model, text)
        say(f"Layers that go: {', '.join(map(str, removed))}")
        table, weights = fewer_layers(table, weights, removed)
        model = _model(table, weights, origin.where)
    if settings.heads is not None:
        scores = head_scores(model, text.inputs)
        table, weights = fewer_heads(table, weights, scores, settings.heads)
        model = _model(table, weights, origin.where)
    if settings.hidden is not None:
        table, weights = narrower_ffns(
            table, weights, hidden_scores(model, text.inputs), settings.hidden
        )
        model = _model(table, weights, origin.where)
    if settings.dim is not None:
        full_table, table = table, narrower_table(table, settings.dim)
        channels = channel_scores(model, full_table["dim"], text.inputs)
        weights = dict(tree_flatten(model.parameters()))
        empty = typed_model(table, origin.where).build(table["vocab_size"])
        weights = narrower_stream(weights, shapes(empty), channels, settings.dim)
        model = _model(table, weights, origin.where)
    (total, layers), (total_now, layers_now) = before, sizes(model)
    say(
        f"Parameters: {total:,} before, {total_now:,} after; in layers {layers:,} and "
        f"{layers_now:,} ({layers_now / layers:.0%})"
    )
    return model, {"model": table}


def sizes(model: Model) -> tuple[int, int]:
    """The number of parameters of a model, and of its layers alone."""
    layers = {id(layer): layer for layer in layers_of(model)}.values()
    inner = sum(array.size for part in layers for _, array in tree_flatten(part.parameters()))
    return count(model).total, inner


def _model(table: dict[str, Any], weights: dict[str, Any], where: str) -> Model:
    model = typed_model(table, where).build(table["vocab_size"])
    expected = shapes(model)
    for name, array in weights.items():
        if expected.get(name) != array.shape:
            raise RecipeError(
                f"{where}: {name} has the shape {list(array.shape)}, and the smaller model needs "
                f"{list(expected.get(name, ()))}, so its size doesn't follow from the number of "
                "heads, hidden features or layers: prune another part."
            )
    model.update(tree_unflatten(list(weights.items())))
    return model


def _gone(layers: str, model: Model, text: Sample) -> Sequence[int]:
    """The numbers of the layers that go: those named, or those of least influence."""
    n = len(layers_of(model))
    try:
        numbers = [int(part) for part in layers.split(",")]
    except ValueError:
        raise RunError(
            f"--layers {layers}: give how many stay, as in 6, or which go, as in 3,5."
        ) from None
    if len(numbers) == 1 and "," not in layers:
        if not 0 < numbers[0] < n:
            raise RunError(f"--layers {layers}: the model has {n}; keep fewer, and at least 1.")
        influence = block_influence(model, text.inputs)
        return sorted(np.argsort(influence, kind="stable")[: n - numbers[0]].tolist())
    if outside := [i for i in numbers if not 0 <= i < n]:
        raise RunError(f"--layers names layer {outside[0]}, but the model has 0 to {n - 1}.")
    return sorted(set(numbers))


def _n_of_m(text: str) -> NofM:
    n, _, m = text.partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) < int(m)):
        raise RunError(f"--n-of-m {text}: write N:M, as in 2:4, with N smaller than M.")
    return int(n), int(m)
