"""Runs a training from recipe to last checkpoint: `mlxt train`.

Launched as a group, every process runs `train`: rank 0 owns the run's folder and prints, the
others follow. Collective operations wait for all ranks, so all ranks call them in one order.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from ..assembly.build import Built, build
from ..assembly.callbacks import callbacks, memory_meter
from ..assembly.checks import check_division, check_model, check_reach, check_start, check_warmup
from ..assembly.growth import Grow
from ..assembly.model import draft_model
from ..assembly.plan import Plan, check_fits, plan
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.run_data import run_data, trained_on, with_own_tokenizer
from ..assembly.streams import held_out_batches, mixed_batches, training_feed
from ..core.backend import precompile
from ..core.device import facts, set_cache_limit, set_wired_limit
from ..core.errors import RecipeError
from ..core.messages import LogFn
from ..core.tree import Tree
from ..core.versions import version
from ..data.prepare import Progress as Preparing
from ..distributed.launch import join_job
from ..distributed.processes import Ranks, check_divisible, tensor_parallel_ranks
from ..layers.adapters.weights import base_weights, own_weights
from ..recipe.show import diff
from ..recipe.toml import to_toml
from ..report.screen import open_screen
from ..runs import checkpoint
from ..runs.checkpoint import step_of
from ..runs.folder import RUNS, RunFolder, create
from ..runs.frozen import save_base
from ..runs.progress import Progress
from ..trainer.callbacks import ShowStatus, Sink
from ..trainer.dry_run import dry_run
from ..trainer.loop import GROWS, Trainer, arrays
from ..trainer.sinks import JsonLines, require_trackers, trackers
from ..trainer.source import Feed
from .resume import (
    FINISHED,
    Resumable,
    check_never_saved,
    check_recipe,
    find_run,
    finished_reason,
    restore,
)
from .stages import Stage, grow_built, growth_at, next_growth
from .supervise import Status, notify

LOCAL_KEYS = ("data.path", "data.valid_path", "data.tokenizer.path")
"""Keys in which ranks may differ: fingerprints of text and tokenizer are compared instead."""

UNTRAINED_BASE = (
    "Warning: the base of the adapters is drawn from the seed, and adapters are for trained "
    "weights: mlxt finetune SOURCE RECIPE takes those of a run or of a published model."
)

BuildFn = Callable[[str | None, int], Built]
"""Prepares the data, of this fingerprint if it is known, and builds the recipe as it is after so
many steps; called late, since it may take minutes."""
InitWeights = Callable[[Built], object]
"""Replaces the seeded weights of a new run's model."""


@dataclass(frozen=True)
class Result:
    """The end of a run.

    Attributes:
        folder: the run's folder.
        progress: steps, tokens and best loss reached.
        reason: "finished", "stopped early ...", "stopped by SIGINT" and the like.
        traces: number of traces of the training step in this process.
        is_main: whether this process wrote the run: the only one, or rank 0 of several.
    """

    folder: RunFolder
    progress: Progress
    reason: str
    traces: int
    is_main: bool = True


def train(
    recipe: Recipe | str | Path,
    *,
    name: str | None = None,
    resume: str | Path | None = None,
    root: Path = RUNS,
    say: LogFn = print,
    progress: Preparing | None = None,
    init_weights: InitWeights | None = None,
) -> Result:
    """Train a recipe; the run's folder `root/name` appears when its first step begins.

    Launched as a group (`mlx.launch`, `mpirun`), the processes share every batch, and rank 0
    alone writes and prints.

    Args:
        recipe: a recipe, or the path or name of one.
        name: the run's name; None takes the recipe's, with a number if that is taken.
        resume: "auto" continues the run of that name if there is one; a run's or checkpoint's
            folder continues that. None starts a new run.
        root: the folder of runs.
        say: receives messages about the run.
        progress: called while the data is prepared.
        init_weights: called on rank 0 before the first step of a new run, not on resume.

    Raises:
        MlxtError: the run cannot begin or continue; the message says why and what to do.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    stem = recipe.resolved.name if recipe.resolved else "run"
    # These raise where parts of the recipe don't fit, before minutes of data preparation.
    check_model(recipe)
    check_division(recipe, draft_model(recipe))
    require_trackers(recipe.log)
    precompile()
    config, (rows, _) = recipe.train, recipe.train.divided
    key = "train__batch_size" if config.microbatch == "given" else "train__microbatch"
    with join_job() as everyone:
        ranks = tensor_parallel_ranks(everyone, config.tensor_parallel)
        check_growth(recipe, ranks, say)
        check_divisible(ranks, **{key: rows}, eval__batch_size=recipe.eval.batch_size or rows)
        build_parts = partial(_build, recipe, ranks, progress, root)
        if not ranks.is_main:
            return _follow(build_parts, ranks)
        resumed = find_run(stem, name, resume, root)
        if resumed is None:
            check_start(recipe, draft_model(recipe))
            result = _begin(build_parts, recipe, init_weights, name, stem, root, say)
        else:
            recipe = with_own_tokenizer(recipe, resumed.folder)
            build_parts = partial(_build, recipe, ranks, progress, root)
            with resumed.folder.locked():
                result = _continue(build_parts, recipe, resumed, say)
        ranks.gather(str(result.folder.path))  # tells the other ranks that the last save is done
        return result


def rehearse(
    recipe: Recipe | str | Path, *, say: LogFn = print, progress: Preparing | None = None
) -> None:
    """Prepare the data, plan, and run the first step of a recipe, without starting a run.

    Args:
        recipe: a recipe, or the path or name of one.
        say: receives messages.
        progress: called while the data is prepared.

    Raises:
        MlxtError: the run could not begin; the message says why and what to do.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    check_start(recipe, draft_model(recipe))
    require_trackers(recipe.log)
    precompile()
    built = build(recipe, run_data(recipe, None, progress))
    _warm_up(built, Progress(), say).close()
    say("Dry run: the first step works. Nothing was kept but the prepared data.")


def _begin(
    build_parts: BuildFn,
    recipe: Recipe,
    init_weights: InitWeights | None,
    name: str | None,
    stem: str,
    root: Path,
    say: LogFn,
) -> Result:
    """Start a new run; if its first step fails, no folder is left behind."""
    built = build_parts(None, 0)
    start: Tree | None = None
    if init_weights is None and built.recipe.adapt is not None:
        say(UNTRAINED_BASE)
    if init_weights is not None:
        init_weights(built)
        start = own_weights(built.model)
    done = _broadcast(built, Progress())
    _notify_supervisor(built, None, None)
    now = Stage(built, _warm_up(built, done, say))
    del built
    folder = create(name, stem, root)
    _notify_supervisor(now.built, folder, None)
    with folder.locked():
        folder.clear()
        try:
            save_base(folder.path, base_weights(now.built.model))
            if start is not None:
                # Before the run has a recipe: killed early, it must not resume from the seed's.
                state = done.to_dict() | {"data": None}
                checkpoint.save(folder.checkpoints, 0, {"model": start}, state)
            return Result(folder, done, *_run_stages(now, recipe, folder, done, say))
        except BaseException:
            if done.step == 0:
                shutil.rmtree(folder.path, ignore_errors=True)  # memory may be exhausted here
            raise


def _continue(build_parts: BuildFn, recipe: Recipe, resumed: Resumable, say: LogFn) -> Result:
    """Continue a run from the checkpoint that was named, or from its newest."""
    folder = resumed.folder
    check_recipe(folder, recipe)
    folder.clear_leftovers()
    checkpoint.recover(folder.checkpoints)
    saved = resumed.checkpoint or folder.newest()
    if saved is None:
        check_never_saved(folder)
    built = build_parts(*((trained_on(saved), step_of(saved)) if saved else (None, 0)))
    _notify_supervisor(built, folder, saved)
    done = _broadcast(built, restore(built, saved) if saved else Progress())
    if saved is None:
        say(f"{folder.path} has no checkpoint yet: it starts again at step 0.")
    else:
        say(f"Continuing {folder.path} at step {done.step}, from {saved.name}.")
    # A growth comes first: it starts the count of evaluations that stop a run early anew.
    if stage := growth_at(recipe, done.step):
        built = _grown(built, recipe, stage, done, say)
    if reason := finished_reason(recipe, done):
        checkpoint.prune(folder.checkpoints, recipe.checkpoint.keep)  # a kill may have come before
        say(f"{folder.path} {FINISHED[reason].format(done.step)}")
        return Result(folder, done, reason, 0)
    now = Stage(built, _warm_up(built, done, say))
    del built
    reason, traces = _run_stages(now, recipe, folder, done, say)
    return Result(folder, done, reason, traces)


def _grown(built: Built, recipe: Recipe, stage: Grow, done: Progress, say: LogFn) -> Built:
    """Grow the model; checkpoints are ranked anew, since those before it are of another size."""
    large = grow_built(built, recipe, stage)
    done.best_loss, done.best_step, done.stale_evals = None, 0, 0
    before, after = built.counts.total, large.counts.total
    say(f"The model grows at step {stage.at}: from {before:,} to {after:,} parameters.")
    return large


def _run_stages(
    now: Stage, recipe: Recipe, folder: RunFolder, done: Progress, say: LogFn
) -> tuple[str, int]:
    """Train all stages; returns the reason of the end, and the number of traces of the last one."""
    while (reason := _run(now.built, now.feed, folder, done, say)) == GROWS:
        growth = growth_at(recipe, done.step)
        assert growth is not None
        now.built = _grown(now.built, recipe, growth, done, say)
        now.feed = _warm_up(now.built, done, say)
    return reason, now.built.step.traces


def _follow(build_parts: BuildFn, ranks: Ranks) -> Result:
    """Take part in the run of rank 0: the same steps, without writing or printing."""
    built = build_parts(None, 0)
    done = _broadcast(built, Progress())
    reason = finished_reason(built.recipe, done)
    if reason is None:
        feed = _warm_up(built, done, lambda text: None)
        reason = _run(built, feed, None, done, lambda text: None)
    folder = RunFolder(Path(ranks.gather(None)[0]))
    return Result(folder, done, reason, built.step.traces, is_main=False)


def check_growth(recipe: Recipe, ranks: Ranks, say: LogFn) -> None:
    """Check before the first step that the largest stage of a growing model fits memory.

    Raises:
        RecipeError: several processes would train it.
        RunError: it doesn't fit.
    """
    if not recipe.grow:
        return
    if ranks.processes > 1:
        raise RecipeError("A model that grows ([[grow]]) is trained by one process: start one.")
    say(f"At its largest: {check_fits(plan(recipe, draft_model(recipe)))}")


def _build(
    recipe: Recipe,
    ranks: Ranks,
    progress: Preparing | None,
    root: Path,
    fingerprint: str | None = None,
    step: int = 0,
) -> Built:
    """Prepare the data and build the recipe as it is at a step, which all ranks have agreed on."""
    keys = {path: value for path, value, _ in diff(recipe, {}) if path not in LOCAL_KEYS}
    ranks.agree(keys | {f"version of {name}": version(name) for name in ("mlx", "mlxt")})
    data = run_data(recipe, fingerprint, progress if ranks.is_main else None)
    ranks.agree({"fingerprint of the text and its tokenizer": data.fingerprint})
    return build(recipe.stage(step, saved=True), data, ranks, root)


def _broadcast(built: Built, done: Progress) -> Progress:
    """Send rank 0's arrays and progress to every rank: it alone has read a checkpoint."""
    built.step.train_state.broadcast()
    return Progress.from_dict(built.step.train_state.ranks.gather(done.to_dict())[0])


def _notify_supervisor(built: Built, folder: RunFolder | None, saved: Path | None) -> None:
    """Report batch sizes and the run's place to a supervising process, if there is one."""
    config = built.recipe.train
    run, began = str(folder.path) if folder else None, saved.name if saved else None
    notify(Status(config.batch_size, config.accumulate, run, began))


def _warm_up(built: Built, done: Progress, say: LogFn) -> Feed:
    """Open the training data, check the plan, and do a dry run that compiles the first step."""
    feed = training_feed(built, done.cursor)
    # These raise if there is nothing to measure.
    held_out_batches(built, built.recipe.eval.batches)
    mixed_batches(built, built.recipe.eval.batches)
    counts, recipe = built.counts, built.recipe
    trained = f", {counts.trainable:,} trained" if recipe.train.freeze or recipe.adapt else ""
    say(
        f"{counts.total:,} parameters ({counts.active:,} active for a token{trained}), "
        f"{built.data.count('train'):,} training tokens."
    )
    say(check_fits(_plan(built)))
    for warning in filter(None, (check_warmup(recipe), check_reach(recipe))):
        say(warning)
    say("Compiling the first step ...")
    dry = dry_run(built.step, [arrays(batch) for batch in feed.preview(recipe.train.accumulate)])
    unused = (f"Warning: {x} gets no gradient from the first batch." for x in dry.unused_parameters)
    for notice in (*built.step.parallel.notices, *unused):
        say(notice)
    say(f"The first step took {dry.compile_s:.1f} s with compilation, and {dry.peak_gib:.2f} GiB.")
    return feed


def _run(built: Built, feed: Feed, folder: RunFolder | None, progress: Progress, say: LogFn) -> str:
    """Train to the end; returns the reason of the end. Without a folder nothing is written."""
    planned = _plan(built)
    set_cache_limit(planned.cache)
    set_wired_limit(planned.wired)
    with ExitStack() as stack:
        stack.enter_context(closing(feed))
        outputs = _open_outputs(stack, built, folder, progress) if folder else Outputs([])
        if folder:
            folder.keep_plan(planned.facts())
        meter = memory_meter(built, planned)
        called = [meter, *callbacks(built, folder, outputs.sinks, outputs.status)]
        mx.reset_peak_memory()  # after the reference product that MFU is a share of
        stage = next_growth(built.recipe, progress.step)
        grows_at = None if stage is None else stage.at
        reason = Trainer(built.step, feed, built.recipe.train, called, progress, grows_at).run()
    if folder and reason != GROWS:
        say(f"{folder.path}: {reason} at step {progress.step}.")
        if measured := meter.record():
            say(measured)
        folder.keep_plan(planned.facts() | {"measured_bytes": meter.measured})
    return reason


def _plan(built: Built) -> Plan:
    """The memory plan of this process."""
    ranks = built.step.train_state.ranks
    tensor_parallel = ranks.processes // ranks.world
    return plan(built.recipe, built.model, ranks=ranks.world, tensor_parallel=tensor_parallel)


class Outputs(NamedTuple):
    """The sinks of a run's records, and the function that shows its status on the screen."""

    sinks: list[Sink]
    status: ShowStatus = lambda text: None


def _open_outputs(stack: ExitStack, built: Built, folder: RunFolder, progress: Progress) -> Outputs:
    """Write the run's description, then open its log, the screen and the trackers."""
    recipe = built.recipe
    _describe(folder, recipe, built)
    folder.forget_after(progress.step)
    active = trackers(recipe.log, folder.path, recipe.model_dump())
    log = stack.enter_context(closing(JsonLines(folder.log)))
    screen = open_screen(folder.name, recipe.train.steps, progress.step)
    return Outputs([log, stack.enter_context(screen), *active], screen.status)


def _describe(folder: RunFolder, recipe: Recipe, built: Built) -> None:
    """Write the resolved recipe, the environment and the tokenizer into the run's folder."""
    resolved = recipe.resolved
    text = to_toml(resolved.data, resolved.origin) if resolved else to_toml(recipe.model_dump())
    how = {"processes": built.step.train_state.ranks.processes, "command": shlex.join(sys.argv)}
    folder.describe(text, {**facts(), **how, "folder": os.getcwd()})
    folder.keep_tokenizer(built.tokenizer.save)
