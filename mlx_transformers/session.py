"""A training run from recipe to last checkpoint: what `mlxt train` does."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from .assemble import Built, build, draft_model, load_recipe
from .core.device import facts, keep_wired, matmul_flops
from .core.errors import RunError
from .data.prepare import Progress as Preparing
from .data.prepare import prepare
from .data.stream import EvalStream, TrainStream
from .decode.generate import generate
from .decode.sample import Sampling
from .layers.counts import flops_per_token
from .recipe.show import diff
from .recipe.toml import to_toml
from .schema import Recipe
from .trainer import checkpoint
from .trainer.folder import (
    RUNS,
    RunFolder,
    check_new,
    create,
    find,
    find_checkpoint,
    named_checkpoint,
)
from .trainer.loop import Trainer, arrays
from .trainer.metrics import Window
from .trainer.moments import Evaluate, Report, Sample, Save, Sink
from .trainer.probe import probe
from .trainer.progress import Progress
from .trainer.restore import restore_model, restore_optimizer, restore_state
from .trainer.screen import open_screen
from .trainer.sinks import JsonLines, TensorBoard, WandB

FREE = ("train.steps", "eval.", "checkpoint.", "log.")
"""Keys that may change when a run is resumed: they don't touch what has been computed."""

SAMPLE_TOKENS = 120
"""Tokens of a sample while training."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: RunFolder
    progress: Progress
    reason: str
    traces: int


def train(
    recipe: Recipe | str | Path,
    *,
    name: str | None = None,
    resume: str | Path | None = None,
    root: Path = RUNS,
    say: Say = print,
    progress: Preparing | None = None,
) -> Result:
    """Train a recipe; the run is kept in `root/name`, which appears when its first step begins.

    Args:
        recipe: a recipe, or the path or name of one.
        name: the run's name; None takes the recipe's, with a number if that is taken.
        resume: "auto" continues the run of that name if there is one; a run's or checkpoint's
            folder continues that. None starts anew.
        root: the folder of runs.
        say: where sentences about the run go.
        progress: told how far the preparation of the data is, where there is any.

    Raises:
        MlxtError: whatever can't be done, said in a sentence.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    stem = recipe.resolved.name if recipe.resolved else "run"
    draft_model(recipe)  # raises where sizes don't go together, before the text is prepared
    _require_trackers(recipe)
    place = _place(stem, name, resume, root)
    if place is None:
        return _begin(recipe, name, stem, root, say, progress)
    folder, saved = place
    with folder.locked():
        return _continue(recipe, folder, saved, say, progress)


def _begin(
    recipe: Recipe, name: str | None, stem: str, root: Path, say: Say, progress: Preparing | None
) -> Result:
    """A new run; it leaves no folder if its first step can't be done."""
    built = build(recipe, prepare(recipe.data, progress=progress))
    feed = _ready(built, {}, say)
    folder, done = create(name, stem, root), Progress()
    with folder.locked():
        try:
            return _run(built, feed, folder, done, say)
        except BaseException:
            if done.step == 0:
                shutil.rmtree(folder.path)
            raise


def _continue(
    recipe: Recipe, folder: RunFolder, saved: Path | None, say: Say, progress: Preparing | None
) -> Result:
    """A run that is there already, from the checkpoint named or else its newest."""
    _same_recipe(folder, recipe)
    checkpoint.clear_leftovers(folder.checkpoints)
    saved = saved or folder.newest()
    built = build(recipe, prepare(recipe.data, progress=progress))
    done = _restore(built, saved) if saved else Progress()
    if done.step >= recipe.train.steps:
        say(f"{folder.path} has all of its {done.step} steps already.")
        return Result(folder, done, "finished", 0)
    if done.stopped_early(recipe.eval.patience):
        say(f"{folder.path} stopped early at step {done.step}. Raise eval.patience to go on.")
        return Result(folder, done, "stopped early", 0)
    if saved is not None and done.best_step == done.step and folder.best() != saved:
        # A kill between a save and its mark leaves `best` at the one before.
        checkpoint.mark(folder.checkpoints, "best", saved)
    return _run(built, _ready(built, done.cursor, say), folder, done, say)


def _place(
    stem: str, name: str | None, resume: str | Path | None, root: Path
) -> tuple[RunFolder, Path | None] | None:
    """The run to continue and the checkpoint that was named, or None where a new run begins."""
    if resume is None:
        check_new(name, root)
        return None
    if str(resume) == "auto":
        folder = RunFolder(root / (name or stem))
        return (folder, None) if folder.recipe.is_file() else None
    place = named_checkpoint(Path(resume)) or (find(resume, root), None)
    if name is not None and name != place[0].name:
        raise RunError(
            f"--resume {resume} continues the run '{place[0].name}', so --name {name} has no "
            "meaning: leave it out."
        )
    return place


def _same_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Raises RunError where a run would go on with another recipe than it began with."""
    changes = [
        f"  {path}: {was!r} there, {now!r} here"
        for path, was, now in diff(load_recipe(folder.recipe), recipe)
        if not path.startswith(FREE)
    ]
    if changes:
        raise RunError(
            f"{folder.path} was trained with another recipe:\n" + "\n".join(changes) + "\n"
            "Resume with that recipe, or give a new run another --name. Only train.steps and the "
            "tables eval, checkpoint and log may change."
        )


def _restore(built: Built, path: Path) -> Progress:
    trees, state = checkpoint.load(path)
    if state["data"] != built.data.fingerprint:
        raise RunError(
            f"{path} was trained on other data than data.* gives now: the text or the tokenizer "
            "has changed, so it can neither go on nor be measured there. Bring the old text back, "
            "or start a new run with another --name."
        )
    restore_model(built.model, trees["model"])
    restore_optimizer(built.step.optimizer, trees["optimizer"])
    for name, live in _extras(built).items():
        restore_state(live, trees.get(name, {}), name)
    built.step.rebuild()
    return Progress.from_dict(state)


def _extras(built: Built) -> dict[str, Any]:
    """State beside weights and optimizer, by the name of its file."""
    step = built.step
    found = {"ema": step.ema, "scaler": step.scaler}
    return {name: x.state for name, x in found.items() if x is not None}


def _describe(folder: RunFolder, recipe: Recipe, built: Built) -> None:
    resolved = recipe.resolved
    text = to_toml(resolved.data, resolved.origin) if resolved else to_toml(recipe.model_dump())
    folder.describe(text, {**facts(), "command": " ".join(sys.argv), "folder": os.getcwd()})
    folder.keep_tokenizer(built.tokenizer.save)


def _ready(built: Built, cursor: dict[str, Any], say: Say) -> TrainStream:
    """The data from `cursor` on, after a dry step that compiles, and finds what can't work."""
    feed = _feed(built, cursor)
    _valid(built, built.recipe.eval.batches)  # raises where there is nothing to measure on
    counts = built.counts
    say(
        f"{counts.total:,} parameters ({counts.active:,} active for a token), "
        f"{built.data.count('train'):,} training tokens."
    )
    say("Compiling the first step ...")
    dry = probe(built.step, [arrays(feed.batch(i)) for i in range(built.recipe.train.accumulate)])
    for parameter in dry.idle:
        say(f"Warning: {parameter} gets no gradient from the first batch.")
    say(f"The first step took {dry.compile_s:.1f} s with compilation, and {dry.peak_gib:.2f} GiB.")
    return feed


def _run(
    built: Built, feed: TrainStream, folder: RunFolder, progress: Progress, say: Say
) -> Result:
    recipe = built.recipe
    config = recipe.train
    _describe(folder, recipe, built)
    folder.forget_after(progress.step)
    keep_wired()
    mx.reset_peak_memory()
    trackers = _trackers(recipe, folder)
    with (
        closing(feed),
        closing(JsonLines(folder.log)) as log,
        open_screen(folder.name, config.steps, progress.step) as screen,
    ):
        sinks: list[Sink] = [log, screen, *trackers]
        trainer = Trainer(built.step, feed, config, _moments(built, folder, sinks), progress)
        reason = trainer.run()
    say(f"{folder.path}: {reason} at step {progress.step}.")
    return Result(folder, progress, reason, built.step.traces)


def _feed(built: Built, cursor: dict[str, Any]) -> TrainStream:
    config, data = built.recipe.train, built.recipe.data
    return TrainStream(
        built.data,
        config.batch_size,
        config.seq_len,
        seed=config.seed,
        cursor=cursor,
        shuffle=data.shuffle,
        mask_documents=data.mask_documents,
    )


def _moments(built: Built, folder: RunFolder, sinks: list[Sink]) -> list[Any]:
    recipe = built.recipe
    flops = flops_per_token(built.model, recipe.train.seq_len)
    window = Window(flops, matmul_flops(built.step.dtype))
    report = Report(recipe.log, window, sinks, recipe.train.nonfinite == "stop")
    moments: list[Any] = [report]
    if recipe.log.sample_every is not None:
        moments.append(Sample(recipe.log.sample_every, _sampler(built), report))
    moments.append(
        Evaluate(recipe.eval, built.evaluator, lambda: _valid(built, recipe.eval.batches), report)
    )
    moments.append(Save(recipe.checkpoint, _saver(built, folder), window))
    return moments


def _valid(built: Built, batches: int | None) -> Iterable[dict[str, Any]]:
    recipe = built.recipe
    return EvalStream(
        built.data,
        recipe.eval.batch_size or recipe.train.batch_size,
        recipe.train.seq_len,
        batches=batches,
        mask_documents=recipe.data.mask_documents,
    )


def _sampler(built: Built) -> Callable[[], str]:
    prompt = built.recipe.log.sample_prompt
    sampling = Sampling(temp=0.8, top_p=0.95)

    def sample() -> str:
        text = generate(
            built.model, built.tokenizer, prompt, max_tokens=SAMPLE_TOKENS, sampling=sampling
        )
        return prompt + text

    return sample


def _saver(built: Built, folder: RunFolder) -> Callable[[Progress, bool], None]:
    keep = built.recipe.checkpoint.keep

    def save(progress: Progress, best: bool) -> None:
        step = built.step
        trees = {"model": step.model.parameters(), "optimizer": step.optimizer.state}
        trees |= _extras(built)
        state = progress.to_dict() | {"data": built.data.fingerprint}
        checkpoint.save(folder.checkpoints, progress.step, trees, state, best=best)
        checkpoint.prune(folder.checkpoints, keep)

    return save


def _require_trackers(recipe: Recipe) -> None:
    if recipe.log.tensorboard:
        TensorBoard.require()
    if recipe.log.wandb is not None:
        WandB.require()


def _trackers(recipe: Recipe, folder: RunFolder) -> list[Sink]:
    found: list[Sink] = []
    if recipe.log.tensorboard:
        found.append(TensorBoard(folder.path / "tensorboard"))
    if recipe.log.wandb is not None:
        found.append(WandB(recipe.log.wandb, folder.path, recipe.model_dump()))
    return found


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
    folder, path = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe)
    built = build(recipe, prepare(recipe.data, progress=progress))
    _restore(built, path)
    return path, built.evaluator(_valid(built, batches))
