"""A training run from recipe to last checkpoint: what `mlxt train` does.

Launched as a group, every process walks through `train`: rank 0 leads and owns the run's folder,
the others follow without one. Exchanges wait for all, so all do them in one order.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.build import Built, build
from ..assembly.checks import check_division, check_model
from ..assembly.model import draft_model
from ..assembly.plan import Plan, checked, plan
from ..assembly.recipe import Recipe, load_recipe
from ..core.device import facts, keep_freed, keep_wired, matmul_flops
from ..core.errors import RunError
from ..data.prepare import Progress as Preparing
from ..data.prepare import prepare
from ..data.stream import EvalStream, TrainStream
from ..decode.generate import sampler
from ..distributed.processes import Ranks, check_shares, joined, sharing_layers
from ..memory.meter import Meter
from ..recipe.show import diff
from ..recipe.toml import to_toml
from ..report.screen import open_screen
from ..runs import checkpoint
from ..runs.folder import RUNS, RunFolder, create, find_checkpoint
from ..runs.progress import Progress
from ..trainer.callbacks import Evaluate, Report, Sample, Save, Sink
from ..trainer.dry_run import probe
from ..trainer.loop import Trainer, arrays
from ..trainer.metrics import Window
from ..trainer.sinks import JsonLines, require_trackers, trackers
from .resume import OVER, check_same, over, place
from .supervise import Told, tell

PLACES = ("data.path", "data.valid_path", "data.tokenizer.path")
"""Keys that ranks need not agree on: text and tokenizer have fingerprints, wherever they are."""

Say = Callable[[str], None]
Parts = Callable[[], Built]
"""Prepares the data and builds; late, since it may take long."""
Start = Callable[[Built], object]
"""Gives a new run's model other weights than its seed does."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: RunFolder
    progress: Progress
    reason: str
    traces: int
    leads: bool = True
    """Whether this process kept the run: the only one, or rank 0 of several."""


def train(
    recipe: Recipe | str | Path,
    *,
    name: str | None = None,
    resume: str | Path | None = None,
    root: Path = RUNS,
    say: Say = print,
    progress: Preparing | None = None,
    start: Start | None = None,
) -> Result:
    """Train a recipe; the run is kept in `root/name`, which appears when its first step begins.

    Launched as a group (`mlx.launch`, `mpirun`), the processes share every batch, and rank 0 alone
    keeps the run and says anything.

    Args:
        recipe: a recipe, or the path or name of one.
        name: the run's name; None takes the recipe's, with a number if that is taken.
        resume: "auto" continues the run of that name if there is one; a run's or checkpoint's
            folder continues that. None starts anew.
        root: the folder of runs.
        say: where sentences about the run go.
        progress: told how far the preparation of the data is, where there is any.
        start: called on rank 0 before the first step of a new run, never of one that goes on.

    Raises:
        MlxtError: whatever can't be done, said in a sentence.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    stem = recipe.resolved.name if recipe.resolved else "run"
    # All raise where parts don't go together, before the text is prepared.
    check_model(recipe)
    check_division(recipe, draft_model(recipe))
    require_trackers(recipe.log)
    config, (rows, _) = recipe.train, recipe.train.divided
    key = "train__batch_size" if config.microbatch == "given" else "train__microbatch"
    with joined() as everyone:
        ranks = sharing_layers(everyone, config.tensor_parallel)
        check_shares(ranks, **{key: rows}, eval__batch_size=recipe.eval.batch_size or rows)
        parts = partial(_parts, recipe, ranks, progress)
        if not ranks.leads:
            return _follow(parts, ranks)
        going_on = place(stem, name, resume, root)
        if going_on is None:
            result = _begin(parts, start, name, stem, root, say)
        else:
            with going_on[0].locked():
                result = _continue(parts, recipe, *going_on, say)
        ranks.gather(str(result.folder.path))  # tells those who follow that the last save is done
        return result


def _begin(
    parts: Parts, start: Start | None, name: str | None, stem: str, root: Path, say: Say
) -> Result:
    """A new run; it leaves no folder if its first step can't be done."""
    built = parts()
    if start is not None:
        start(built)
    done = _align(built, Progress())
    _tell(built, None, None)
    feed = _ready(built, {}, say)
    folder = create(name, stem, root)
    _tell(built, folder, None)
    with folder.locked():
        try:
            return Result(folder, done, _run(built, feed, folder, done, say), built.step.traces)
        except BaseException:
            if done.step == 0:
                shutil.rmtree(folder.path, ignore_errors=True)  # may need memory that ended
            raise


def _continue(
    parts: Parts, recipe: Recipe, folder: RunFolder, saved: Path | None, say: Say
) -> Result:
    """A run that is there already, from the checkpoint named or else its newest."""
    check_same(folder, recipe)
    checkpoint.recover(folder.checkpoints)
    saved = saved or folder.newest()
    built = parts()
    _tell(built, folder, saved)
    done = _align(built, _restore(built, saved) if saved else Progress())
    if reason := over(recipe, done):
        say(f"{folder.path} {OVER[reason].format(done.step)}")
        return Result(folder, done, reason, 0)
    reason = _run(built, _ready(built, done.cursor, say), folder, done, say)
    return Result(folder, done, reason, built.step.traces)


def _tell(built: Built, folder: RunFolder | None, saved: Path | None) -> None:
    """Leave word for a process that watches this one, if one does."""
    config = built.recipe.train
    run, began = str(folder.path) if folder else None, saved.name if saved else None
    tell(Told(config.batch_size, config.accumulate, run, began))


def _follow(parts: Parts, ranks: Ranks) -> Result:
    """What a rank that doesn't lead does: the same steps, nothing on disk, and not a word."""
    built = parts()
    done = _align(built, Progress())
    reason = over(built.recipe, done)
    if reason is None:
        feed = _ready(built, done.cursor, lambda text: None)
        reason = _run(built, feed, None, done, lambda text: None)
    folder = RunFolder(Path(ranks.gather(None)[0]))
    return Result(folder, done, reason, built.step.traces, leads=False)


def _parts(recipe: Recipe, ranks: Ranks, progress: Preparing | None) -> Built:
    """Everything the recipe describes, which is the same on every rank, or an error is raised."""
    keys = {path: value for path, value, _ in diff(recipe, {}) if path not in PLACES}
    ranks.agree(keys | {f"version of {name}": version(name) for name in ("mlx", "mlxt")})
    data = prepare(recipe.data, progress=progress if ranks.leads else None)
    ranks.agree({"fingerprint of the text and its tokenizer": data.fingerprint})
    return build(recipe, data, ranks)


def _align(built: Built, done: Progress) -> Progress:
    """Rank 0's arrays and progress on every rank: it alone has read a checkpoint."""
    built.step.train_state.broadcast()
    return Progress.from_dict(built.step.train_state.ranks.gather(done.to_dict())[0])


def _restore(built: Built, path: Path) -> Progress:
    trees, state = checkpoint.load(path)
    imported = state["data"] is None  # no training yet: the optimizer begins anew
    if not imported and state["data"] != built.data.fingerprint:
        raise RunError(
            f"{path} was trained on other data than data.* gives now: the text or the tokenizer "
            "has changed, so it can neither go on nor be measured there. Bring the old text back, "
            "or start a new run with another --name."
        )
    if imported:
        built.step.train_state.start_from(trees["model"])
    else:
        built.step.train_state.restore(trees)
    return Progress.from_dict(state)


def _describe(folder: RunFolder, recipe: Recipe, built: Built) -> None:
    resolved = recipe.resolved
    text = to_toml(resolved.data, resolved.origin) if resolved else to_toml(recipe.model_dump())
    how = {"processes": built.step.train_state.ranks.processes, "command": shlex.join(sys.argv)}
    folder.describe(text, {**facts(), **how, "folder": os.getcwd()})
    folder.keep_tokenizer(built.tokenizer.save)


def _ready(built: Built, cursor: dict[str, Any], say: Say) -> TrainStream:
    """The data from `cursor` on, after a dry step that compiles, and finds what can't work."""
    feed = _feed(built, cursor)
    held_out(built, built.recipe.eval.batches)  # raises where there is nothing to measure on
    counts = built.counts
    say(
        f"{counts.total:,} parameters ({counts.active:,} active for a token), "
        f"{built.data.count('train'):,} training tokens."
    )
    say(checked(_plan(built)))
    say("Compiling the first step ...")
    dry = probe(built.step, [arrays(feed.batch(i)) for i in range(built.recipe.train.accumulate)])
    for parameter in dry.idle:
        say(f"Warning: {parameter} gets no gradient from the first batch.")
    say(f"The first step took {dry.compile_s:.1f} s with compilation, and {dry.peak_gib:.2f} GiB.")
    return feed


def _run(
    built: Built, feed: TrainStream, folder: RunFolder | None, progress: Progress, say: Say
) -> str:
    """Train to the end; the reason of it. Without a folder nothing is written."""
    planned = _plan(built)
    keep_freed(planned.cache)
    keep_wired(planned.wired)
    mx.reset_peak_memory()
    with ExitStack() as stack:
        stack.enter_context(closing(feed))
        sinks = _sinks(stack, built, folder, progress) if folder else []
        if folder:
            folder.keep_plan(planned.facts())
        meter = _meter(built, planned)
        moments = [meter, *_moments(built, folder, sinks)]
        reason = Trainer(built.step, feed, built.recipe.train, moments, progress).run()
    if folder:
        say(f"{folder.path}: {reason} at step {progress.step}.")
        if told := meter.remember():
            say(told)
        folder.keep_plan(planned.facts() | {"measured_bytes": meter.measured})
    return reason


def _plan(built: Built) -> Plan:
    """What this process will need."""
    ranks = built.step.train_state.ranks
    sharers = ranks.processes // ranks.world
    return plan(built.recipe, built.model, ranks=ranks.world, sharers=sharers)


def _meter(built: Built, planned: Plan) -> Meter:
    """Measures what was planned, before a sample or an evaluation takes memory of its own."""
    others = min(built.recipe.eval.every, built.recipe.log.sample_every or built.recipe.eval.every)
    return Meter(planned.account.peak, planned.factor, others)


def _sinks(stack: ExitStack, built: Built, folder: RunFolder, progress: Progress) -> list[Sink]:
    """The run's files begun or taken up again, and all that takes its records."""
    recipe = built.recipe
    _describe(folder, recipe, built)
    folder.forget_after(progress.step)
    found = trackers(recipe.log, folder.path, recipe.model_dump())
    log = stack.enter_context(closing(JsonLines(folder.log)))
    screen = open_screen(folder.name, recipe.train.steps, progress.step)
    return [log, stack.enter_context(screen), *found]


def _feed(built: Built, cursor: dict[str, Any]) -> TrainStream:
    config, data, ranks = built.recipe.train, built.recipe.data, built.step.train_state.ranks
    return TrainStream(
        built.data,
        config.batch_size,
        config.seq_len,
        seed=config.seed,
        kind=data.batch,
        cursor=cursor,
        shuffle=data.shuffle,
        mask_documents=data.mask_documents,
        rank=ranks.rank,
        world=ranks.world,
    )


def _moments(built: Built, folder: RunFolder | None, sinks: list[Sink]) -> list[Any]:
    recipe, ranks = built.recipe, built.step.train_state.ranks
    peak = sum(ranks.gather(matmul_flops(built.step.dtype)))
    window = Window(built.flops_per_token, peak)
    report = Report(recipe.log, window, sinks, recipe.train.nonfinite == "stop")
    moments: list[Any] = [report]
    if recipe.log.sample_every is not None and (folder or built.step.train_state.division):
        sample = sampler(built.model, built.tokenizer, recipe.log.sample_prompt)
        moments.append(Sample(recipe.log.sample_every, sample, report))
    moments.append(
        Evaluate(recipe.eval, built.evaluator, lambda: held_out(built, recipe.eval.batches), report)
    )
    moments.append(Save(recipe.checkpoint, _saver(built, folder), window))
    return moments


def held_out(built: Built, batches: int | None) -> EvalStream:
    """The validation split as this rank measures it; with `batches`, so many, spread evenly."""
    recipe, ranks = built.recipe, built.step.train_state.ranks
    return EvalStream(
        built.data,
        recipe.eval.batch_size or recipe.train.batch_size,
        recipe.train.seq_len,
        kind=recipe.data.batch,
        batches=batches,
        seed=recipe.train.seed,
        mask_documents=recipe.data.mask_documents,
        rank=ranks.rank,
        world=ranks.world,
    )


def _saver(built: Built, folder: RunFolder | None) -> Callable[[Progress, bool], None]:
    """Writes a checkpoint; without a folder it only gives rank 0 what belongs into it."""
    keep = built.recipe.checkpoint.keep

    def save(progress: Progress, best: bool) -> None:
        trees = built.step.train_state.gather()
        if folder is None:
            return
        state = progress.to_dict() | {"data": built.data.fingerprint}
        checkpoint.save(folder.checkpoints, progress.step, trees, state, best=best)
        checkpoint.prune(folder.checkpoints, keep)

    return save


def evaluate(
    run: str | Path | None = None,
    batches: int | None = None,
    root: Path = RUNS,
    progress: Preparing | None = None,
) -> tuple[Path, dict[str, float]]:
    """Measure a run's best checkpoint, or the one named, on its validation split.

    Raises:
        MlxtError: there is no such run, or its data can't be had any more.
    """
    path, built = opened(run, root, progress)
    return path, built.evaluator(held_out(built, batches))


def opened(
    run: str | Path | None = None, root: Path = RUNS, progress: Preparing | None = None
) -> tuple[Path, Built]:
    """A run as its best checkpoint has it, or as the one named does, and that checkpoint.

    Raises:
        MlxtError: as `evaluate`.
    """
    folder, path = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe)
    built = build(recipe, prepare(recipe.data, progress=progress))
    _restore(built, path)
    return path, built
