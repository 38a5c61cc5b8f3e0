"""Profiles a recipe: its training and decoding speed on this machine, and their limits."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..assembly.build import Built
from ..assembly.streams import training_feed
from ..core.device import set_wired_limit
from ..core.errors import RunError
from ..core.messages import LogFn
from ..layers.counts import flops_per_token
from ..trainer.dry_run import dry_run
from ..trainer.forward import Batch
from ..trainer.loop import arrays
from ..trainer.source import Feed
from .blocks import BlockCost, block_costs
from .capture import capture, check_capture
from .decoding import Decoding, decodings
from .energy import Energy, measure_energy
from .machine import Peaks
from .others import Others, sentence
from .step import StepTimer, TimedFeed, step_bytes
from .timing import Spread

ROUNDS = 5
"""Rounds in which all measurements take turns."""


@dataclass(frozen=True)
class Speed:
    """Speed and memory of a recipe's training step on this machine.

    Attributes:
        tokens_per_step: tokens of all microbatches.
        microbatches: microbatches per step (gradient accumulation).
        tokens_per_s: tokens per second of the trainer's loop, step by step.
        step_s: seconds per step of the loop.
        parts_s: seconds by part; see `profile/step.py`. Their medians add up to the step's.
        mfu: model FLOPs utilization: floating-point operations of the step as a share of the
            reference product's; None where that was disturbed.
        mfu_missing: why `mfu` is None; None where it isn't.
        bandwidth_use: least bytes that the step moves as a share of the reference copy's.
        matmul_flop_per_s, copy_bytes_per_s: best reference product and copy, measured between
            the rounds.
        compile_s: seconds of the first step beyond a median one; kernels cached by an earlier
            run are not compiled again.
        traces: traces of the compiled step.
        declared_traces: traces that its shapes require.
        peak_gib: peak MLX memory of the loop, GiB.
        others: share of the cores' time that other processes took meanwhile; None: unknown.
    """

    tokens_per_step: int
    microbatches: int
    tokens_per_s: Spread
    step_s: Spread
    parts_s: dict[str, Spread]
    mfu: float | None
    mfu_missing: str | None
    bandwidth_use: float
    matmul_flop_per_s: float
    copy_bytes_per_s: float
    compile_s: float
    traces: int
    declared_traces: int
    peak_gib: float
    others: float | None


@dataclass(frozen=True)
class Profile:
    """All figures of `mlxt profile` for a recipe."""

    recipe: str
    dtype: str
    device: str
    parameters: int
    active_parameters: int
    speed: Speed
    energy: Energy
    blocks: list[BlockCost]
    decoding: list[Decoding]


def measure(
    built: Built, steps: int = 20, *, capture_to: Path | None = None, say: LogFn = lambda _: None
) -> Profile:
    """Profile a built recipe; its weights are trained meanwhile.

    Args:
        built: a recipe's parts.
        steps: timed steps of the trainer's loop, in rounds of at least two.
        capture_to: file for a GPU trace of one step.
        say: prints progress.

    Raises:
        RunError: the loss is not finite, or a trace can't be recorded here.
    """
    if capture_to is not None:
        check_capture(capture_to)
    peaks = Peaks(built.step.dtype)
    if built.recipe.train.tensor_parallel > 1:
        say("train.tensor_parallel is ignored: a profile measures one process.")
    speed = measure_speed(built, steps, peaks, say)
    energy = _energy(built, speed)
    say("Timing blocks of each kind ...")
    blocks = measure_blocks(built, ROUNDS)
    say("Decoding ...")
    decoding = decodings(built.model, peaks.copy_bytes_per_s, rounds=3)
    if capture_to is not None:
        with closing(training_feed(built)) as feed:
            capture(built.step, _step_batches(built, feed), capture_to)
    recipe, counts = built.recipe, built.counts
    name = recipe.resolved.name if recipe.resolved else "recipe"
    device = f"{mx.device_info().get('device_name', 'unknown')} ({mx.default_device()})"
    sizes = (counts.total, counts.active)
    return Profile(name, recipe.train.dtype, device, *sizes, speed, energy, blocks, decoding)


def measure_blocks(built: Built, rounds: int) -> list[BlockCost]:
    """Measure the layers of each kind, in turns with a whole step."""
    with closing(training_feed(built)) as feed:
        batches = _step_batches(built, feed)
    return block_costs(built, batches, rounds)


def measure_speed(built: Built, steps: int, peaks: Peaks, say: LogFn = lambda _: None) -> Speed:
    """Measure the training step alone.

    Raises:
        RunError: fewer than 2 steps are asked for, or the loss of the fresh model is not finite.
    """
    if steps < 2:
        raise RunError(f"--steps {steps} is too few to measure how steps vary. Ask for at least 2.")
    rounds = min(ROUNDS, steps // 2)
    set_wired_limit()
    others = Others()
    say("Compiling ...")
    with closing(training_feed(built)) as feed:
        dry = dry_run(built.step, _step_batches(built, feed))
        timer = StepTimer(built.step, TimedFeed(feed))
        timer.warm()
        if warning := sentence(others.share()):
            say(warning)
        for number in range(rounds):
            say(f"Round {number + 1} of {rounds} ...")
            peaks.look()
            timer.round(steps // rounds + (number < steps % rounds))
        peaks.look()
    return _speed(built, timer, peaks, dry.compile_s, others.share())


def _speed(
    built: Built, timer: StepTimer, peaks: Peaks, first_s: float, others: float | None
) -> Speed:
    train, step = built.recipe.train, built.step
    tokens = train.batch_size * train.accumulate * train.seq_len
    step_s = Spread.of(timer.loop)
    per_token = flops_per_token(built.model, train.seq_len)
    mfu, missing = peaks.utilization(per_token * tokens / step_s.median, others)
    return Speed(
        tokens_per_step=tokens,
        microbatches=train.accumulate,
        tokens_per_s=Spread.of([tokens / took for took in timer.loop]),
        step_s=step_s,
        parts_s={name: share.times(step_s.median) for name, share in timer.parts().items()},
        mfu=mfu,
        mfu_missing=missing,
        bandwidth_use=step_bytes(step) / step_s.median / peaks.copy_bytes_per_s,
        matmul_flop_per_s=peaks.matmul_flop_per_s,
        copy_bytes_per_s=peaks.copy_bytes_per_s,
        compile_s=max(0.0, first_s - step_s.median),
        traces=step.traces,
        declared_traces=step.declared_traces,
        peak_gib=timer.peak_gib,
        others=others,
    )


def _energy(built: Built, speed: Speed) -> Energy:
    """Measure the energy of the trainer's loop, in pieces of about a second."""
    steps = max(1, round(1.0 / speed.step_s.median))
    with closing(training_feed(built)) as feed:
        timer = StepTimer(built.step, TimedFeed(feed))

        def work() -> tuple[float, int]:
            return sum(timer.loop_steps(steps)), steps * speed.tokens_per_step

        return measure_energy(work)


def _step_batches(built: Built, feed: Feed) -> list[Batch]:
    """The microbatches of one step."""
    return [arrays(batch) for batch in feed.preview(built.recipe.train.accumulate)]
