"""Short measurement of one recipe for `mlxt bench`, in a process of its own.

    python -m mlx_transformers.profile.rung '{"recipe": "mistral_tiny", "set": [], "seconds": 8}'

Prints the fields of a `BenchRow` as a line of JSON.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median

from ..assembly.build import Built, build
from ..assembly.recipe import load_recipe
from ..assembly.streams import training_feed
from ..core.device import set_wired_limit
from ..core.errors import MlxtError
from ..layers.counts import flops_per_token
from ..models.model import causal_decoder
from ..trainer.dry_run import dry_run
from ..trainer.loop import arrays
from .decoding import decode_speed
from .energy import measure_energy
from .machine import Peaks
from .others import Others
from .step import StepTimer, TimedFeed
from .sweep import why_ended
from .timing import Spread

ROUNDS = 4
"""Rounds of training steps, each between two measurements of the reference product."""


@dataclass(frozen=True)
class BenchRow:
    """The figures of one recipe.

    Attributes:
        recipe: its name.
        tokens_per_s: median training tokens per second; None where the measurement failed.
        low, high: its quartiles.
        mfu: model FLOPs utilization; None where the reference product was disturbed.
        mfu_missing: why `mfu` is None.
        peak_gib: peak MLX memory of training, GiB.
        decode_tokens_per_s: greedy decoding of one row; None for models that don't continue text.
        watts: mean power of CPU, GPU and neural engine while training.
        joules_per_million_tokens: energy of training at that power; None where it can't be read.
        energy_missing: why the energy is None.
        others: share of the cores' time that other processes took meanwhile; None: unknown.
        error: why the measurement failed, in a sentence.
    """

    recipe: str
    tokens_per_s: float | None = None
    low: float | None = None
    high: float | None = None
    mfu: float | None = None
    mfu_missing: str | None = None
    peak_gib: float | None = None
    decode_tokens_per_s: float | None = None
    watts: float | None = None
    joules_per_million_tokens: float | None = None
    energy_missing: str | None = None
    others: float | None = None
    error: str | None = None


def measure_rung(built: Built, name: str, seconds: float) -> BenchRow:
    """Measure training for about `seconds`, then decoding; the weights are trained meanwhile.

    Raises:
        RunError: the loss of the fresh model is not finite.
    """
    others = Others()
    set_wired_limit()
    peaks = Peaks(built.step.dtype)
    train = built.recipe.train
    tokens = train.batch_size * train.accumulate * train.seq_len
    with closing(training_feed(built)) as feed:
        dry_run(built.step, [arrays(batch) for batch in feed.preview(train.accumulate)])
        timer = StepTimer(built.step, TimedFeed(feed))
        step_s = median(timer.loop_steps(2))
        steps, took = max(2, round(seconds / ROUNDS / step_s)), list[float]()
        for _ in range(ROUNDS):
            peaks.look()
            took += timer.loop_steps(steps)
        peaks.look()
        a_second = max(1, round(1 / step_s))
        energy = measure_energy(lambda: (sum(timer.loop_steps(a_second)), a_second * tokens))
    speed = Spread.of([tokens / seconds_of_step for seconds_of_step in took])
    per_token = flops_per_token(built.model, train.seq_len)
    share = others.share()
    mfu, missing = peaks.utilization(per_token * speed.median, share)
    decoder = causal_decoder(built.model)
    return BenchRow(
        name,
        speed.median,
        speed.low,
        speed.high,
        mfu,
        missing,
        timer.peak_gib,
        median(decode_speed(decoder) for _ in range(3)) if decoder else None,
        energy.watts,
        energy.joules_per_million_tokens,
        energy.missing,
        share,
    )


def measured_apart(recipe: str, sets: Sequence[str], seconds: float) -> BenchRow:
    """Measure a recipe by this module as a program: its memory is then its own, and if the system
    ends it, the row says why."""
    request = json.dumps({"recipe": recipe, "set": list(sets), "seconds": seconds})
    command = [sys.executable, "-m", "mlx_transformers.profile.rung", request]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return BenchRow(**json.loads(done.stdout.splitlines()[-1]))
    return BenchRow(recipe, error=why_ended(done.returncode, done.stderr))


def main() -> None:
    """Measure the recipe that the first argument names, and print the figures."""
    request = json.loads(sys.argv[1])
    try:
        built = build(load_recipe(request["recipe"], request["set"]))
        row = measure_rung(built, request["recipe"], request["seconds"])
    except MlxtError as error:
        row = BenchRow(request["recipe"], error=str(error))
    print(json.dumps(asdict(row)))


if __name__ == "__main__":
    main()
