"""Measure the cost of every mixer by length: time and memory of training, time of decoding.

    python tools/bench_length.py [--json FILE] [--svg FILE] [--only KIND ...] [--repeats 3] [--cpu]

A mixer is measured alone, with the fields and the position of the shipped recipe that is named
after it, or of the first that has it: one row, forward and backward compiled together, from 256 to
8,192 tokens. Decoding a row of T tokens takes T times a step whose state has room for T. Lengths of
one kind take turns, and the fastest of the repeats counts, so that a busy machine disturbs less.
With --cpu the processor time of this process counts, and what others run hardly disturbs at all.

Printed, and saved with --json, by kind: the exponents p of cost ~ T^p, fitted to the logarithms of
all lengths; bytes of the decode state at 1,024 and 16,384 tokens; and from which length on training
is faster than attention. A kind without a recipe, or that can't decode, has null there.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx_transformers.assembly.registry  # noqa: F401  before mlx: fills the slots

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.core.context import Context, Cursor
from mlx_transformers.core.errors import RecipeError, RunError
from mlx_transformers.layers.kinds import CrossMixerKind, MixerKind, PositionKind
from mlx_transformers.layers.positions.none import NoPosition
from mlx_transformers.layers.positions.position import Position
from mlx_transformers.recipe.config import Config
from mlx_transformers.recipe.slot import KINDS
from mlx_transformers.report.plot import measure_curves

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
PARENT = "attention"
"""The kind that the others are compared with, as `llama_tiny` has it."""
STATES = (1024, 16384)
STEPS = 16
"""Steps of decoding whose mean counts."""


class Subject(NamedTuple):
    """A mixer's config and its surroundings, from a recipe."""

    kind: MixerKind
    position: PositionKind
    dim: int
    recipe: str


def main() -> None:
    args = parse()
    found, unmeasured = subjects()
    chosen = [name for name in found if not args.only or name in args.only]
    clock = time.process_time if args.cpu else time.perf_counter
    parent = curve(found[PARENT], args.lengths, args.repeats, clock)
    kinds: dict[str, Any] = {}
    print(
        f"{'kind':22} {'train time':>10} {'memory':>7} {'decode':>7} {'state at 1k, 16k':>22}  from"
    )
    for name in chosen:
        it = found[name]
        measured = parent if name == PARENT else curve(it, args.lengths, args.repeats, clock)
        kinds[name] = summary(it, measured, parent)
        show(name, kinds[name])
    result = {"machine": platform.platform(), "device": str(mx.default_device()), "kinds": kinds}
    result["without_recipe"] = unmeasured
    if unmeasured:
        print("no recipe: " + ", ".join(unmeasured))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.svg:
        drawn = {name: dict(kinds[name]["train_ms"]) for name in kinds}
        axes = ("tokens of a row", "milliseconds of a training pass")
        measure_curves(drawn, args.svg, *axes, log_x=True, log_y=True)


def parse() -> argparse.Namespace:
    """Lengths, kinds and files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save all figures")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw time against length")
    parser.add_argument("--only", nargs="*", default=[], metavar="KIND")
    parser.add_argument("--lengths", nargs="*", type=int, default=list(LENGTHS), metavar="T")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="measure processor time")
    args = parser.parse_args()
    if len(args.lengths) < 2:
        parser.error("--lengths: an exponent takes two lengths at least.")
    return args


def subjects() -> tuple[dict[str, Subject], list[str]]:
    """A subject for each registered mixer that a shipped recipe has, and the kinds without one."""
    found: dict[str, tuple[bool, Subject]] = {}
    for path in sorted(RECIPES.rglob("*_tiny.toml")):
        recipe = load_recipe(path)
        configs = list(tables(recipe.model))
        position = next((c for c in configs if isinstance(c, PositionKind)), NoPosition())
        dim = next(c.dim for c in configs if "dim" in type(c).model_fields)
        for kind in configs:
            if not isinstance(kind, MixerKind) or isinstance(kind, CrossMixerKind):
                continue
            name = str(kind.kind)
            named = path.stem == ("llama_tiny" if name == PARENT else f"{name}_tiny")
            if name not in found or (named and not found[name][0]):
                found[name] = named, Subject(kind, position, dim, path.stem)
    usual = {n for n, kind in KINDS["mixer"].items() if not issubclass(kind, CrossMixerKind)}
    return {name: it for name, (_, it) in sorted(found.items())}, sorted(usual - set(found))


def tables(config: Config) -> Iterator[Any]:
    """A config and every config within it."""
    yield config
    for name in type(config).model_fields:
        value = vars(config)[name]
        for each in value.values() if isinstance(value, dict) else [value]:
            for one in each if isinstance(each, tuple | list) else [each]:
                if isinstance(one, Config):
                    yield from tables(one)


def curve(
    it: Subject, lengths: list[int], repeats: int, clock: Callable[[], float]
) -> dict[str, dict[int, float]]:
    """Milliseconds and MiB of a training pass, and milliseconds of a step of decoding."""
    kind = it.kind
    if "length" in type(kind).model_fields:  # the longest row that the recipe needs
        kind = kind.model_copy(update={"length": max(lengths)})
    mixer: Any = kind.build(it.dim)
    try:
        position = it.position.build(it.dim, max(lengths))
    except RecipeError:  # a table of positions that is too short, which no mixer reads
        position = NoPosition().build(it.dim, max(lengths))
    mx.eval(mixer.parameters(), position.parameters())
    trains = {T: training(mixer, position, it.dim, T) for T in lengths}
    steps = {T: decoding(mixer, position, it.dim, T) for T in lengths}
    memory = {T: peak(run) for T, run in trains.items()}
    decodes = {T: step for T, step in steps.items() if step is not None}
    return {
        "train_ms": fastest(trains, repeats, clock),
        "train_mib": memory,
        "step_ms": {T: ms / STEPS for T, ms in fastest(decodes, repeats, clock).items()},
    }


def training(mixer: Any, position: Position, dim: int, length: int) -> Callable[[], Any]:
    """A function that computes the gradients of one row."""
    x = mx.random.normal((1, length, dim))
    weights = mixer.trainable_parameters()

    def loss(weights: Any, x: mx.array) -> mx.array:
        mixer.update(weights)
        y = mixer(x, Context(position=position, key=mx.random.key(0)))
        return mx.square(y).sum()

    compiled: Any = mx.compile(mx.value_and_grad(loss, argnums=(0, 1)))

    def run() -> Any:
        out = compiled(weights, x)
        mixer.update(weights)
        return out

    return run


def decoding(mixer: Any, position: Position, dim: int, length: int) -> Callable[[], Any] | None:
    """A function that decodes the last tokens of a row; None: the mixer needs whole rows."""
    try:
        state = mixer.init_state(1, length, mx.float32)
    except RunError:
        return None
    x = mx.random.normal((1, 1, dim))

    def one(x: mx.array, state: Any, offset: mx.array) -> Any:
        return mixer.step(x, state, Context(position=position, cursor=Cursor(offset=offset)))

    compiled: Any = mx.compile(one)

    def run() -> Any:
        held, out = state, []
        for offset in range(length - STEPS, length):
            y, held = compiled(x, held, mx.array(offset))
            mx.eval(y, held)
            out.append(y)
        return out

    return run


def fastest(
    runs: dict[int, Callable[[], Any]], repeats: int, clock: Callable[[], float]
) -> dict[int, float]:
    """The fewest milliseconds of each run, in turns; the first turn compiles and does not count."""
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(repeats + 1):
        for length, run in runs.items():
            started = clock()
            mx.eval(run())
            if turn:
                best[length] = min(best[length], (clock() - started) * 1e3)
    return best


def peak(run: Callable[[], Any]) -> float:
    """MiB at the peak of a run, beyond those in use before; the run is compiled first."""
    mx.eval(run())
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(run())
    return float(mx.get_peak_memory() - before) / 2**20


def summary(
    it: Subject, measured: dict[str, dict[int, float]], parent: dict[str, dict[int, float]]
) -> dict[str, Any]:
    """The figures of one kind, as they are saved."""
    whole = {T: T * ms for T, ms in measured["step_ms"].items()}
    return {
        "recipe": it.recipe,
        "train_time_exponent": exponent(measured["train_ms"]),
        "train_memory_exponent": exponent(measured["train_mib"]),
        "decode_time_exponent": exponent(whole) if whole else None,
        "state_bytes": {str(n): state_bytes(it, n) for n in STATES},
        "faster_than_attention_from": crossover(measured["train_ms"], parent["train_ms"]),
        **measured,
    }


def exponent(costs: dict[int, float]) -> float:
    """The slope of the logarithm of a cost over that of the length, by least squares."""
    slope = np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)[0]
    return round(float(slope), 3)


def crossover(ours: dict[int, float], theirs: dict[int, float]) -> int | None:
    """The length from which on ours is faster; None: it isn't at the longest."""
    since = None
    for length in sorted(ours, reverse=True):
        if ours[length] >= theirs[length]:
            return since
        since = length
    return since


def state_bytes(it: Subject, length: int) -> int | None:
    """Bytes of the decode state of one row of `length` tokens in float32."""
    mixer: nn.Module = it.kind.build(it.dim)  # type: ignore[assignment]
    try:
        state = mixer.init_state(1, length, mx.float32)
    except RunError:
        return None
    return sum(int(array.nbytes) for _, array in tree_flatten(state))


def show(name: str, row: dict[str, Any]) -> None:
    """Print a line of the table."""
    states = ", ".join("-" if n is None else f"{n:,}" for n in row["state_bytes"].values())
    decode = row["decode_time_exponent"]
    print(
        f"{name:22} {row['train_time_exponent']:10.2f} {row['train_memory_exponent']:7.2f} "
        f"{'-' if decode is None else f'{decode:.2f}':>7} {states:>22}  "
        f"{row['faster_than_attention_from'] or '-'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
