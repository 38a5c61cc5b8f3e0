"""Decides whether `--resume` can continue a run, and from which checkpoint; restores it."""

from pathlib import Path
from typing import NamedTuple

from ..assembly.build import Built, needs_state
from ..assembly.curriculum_order import curriculum_fingerprint
from ..assembly.recipe import Recipe, load_recipe
from ..assembly.run_data import frozen_runs
from ..core.errors import RunError
from ..core.paths import command_line
from ..layers.adapters.weights import restore_base
from ..recipe.show import diff
from ..runs import checkpoint
from ..runs.folder import RunFolder, check_new, find, named_checkpoint
from ..runs.frozen import read_base
from ..runs.progress import Progress

PLACES = ("data.path", "data.valid_path", "data.tokenizer.path")
"""Keys that say where the data is, which may change; its fingerprint may not."""

MUTABLE_KEYS = (
    *("train.steps", "train.share", "train.microbatch", "train.recompute"),
    *("train.shard_optimizer", "train.offload_optimizer", "train.tensor_parallel"),
    *("train.cache_limit_gib", "train.wired_limit_gib"),
    *PLACES,
    *("eval.", "checkpoint.", "log.", "cost."),
)
"""Keys, or beginnings of keys, that may change on resume: none affects what was computed. Nor do
the keys that name other runs, whose weights are compared when the checkpoint is restored."""

FINISHED = {
    "finished": "has all of its {} steps already.",
    "stopped early": "stopped early at step {}. Raise eval.patience to go on.",
}
"""The sentence, after the run's folder, for each reason that `finished_reason` gives."""


class Resumable(NamedTuple):
    """A run to continue, and the checkpoint that the user named; None means its newest."""

    folder: RunFolder
    checkpoint: Path | None


def finished_reason(recipe: Recipe, done: Progress) -> str | None:
    """A key of `FINISHED` if the run has nothing left to do, else None."""
    if done.step >= recipe.train.steps:
        return "finished"
    return "stopped early" if done.stopped_early(recipe.eval.patience) else None


def find_run(
    stem: str, name: str | None, resume: str | Path | None, root: Path
) -> Resumable | None:
    """Find the run that `resume` means, or None if a new run begins.

    Args:
        stem: the recipe's name, which a run has by default.
        name: the name that the user gave.
        resume: None, "auto", or a run's or checkpoint's folder.
        root: the folder of runs.

    Raises:
        RunError: there is no such run, or a new one cannot have this name.
    """
    if resume is None:
        check_new(name, root)
        return None
    if str(resume) == "auto":
        folder = RunFolder(root / (name or stem))
        return Resumable(folder, None) if folder.recipe.is_file() else None
    checkpoint = named_checkpoint(Path(resume))
    run = Resumable(*checkpoint) if checkpoint else Resumable(find(resume, root), None)
    if name is not None and name != run.folder.name:
        raise RunError(
            f"--resume {resume} continues the run '{run.folder.name}', so --name {name} has no "
            "meaning: leave it out."
        )
    return run


def check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse to continue a run with a recipe other than its own.

    Raises:
        RunError: a key outside `MUTABLE_KEYS` differs; the message lists every difference.
    """
    runs = frozen_runs(recipe)
    changes = [
        f"  {path}: {was!r} there, {now!r} here"
        for path, was, now in diff(load_recipe(folder.recipe), recipe)
        if not path.startswith(MUTABLE_KEYS) and path not in runs
    ]
    if changes:
        again = command_line("train", folder.recipe, "--resume", folder.path)
        raise RunError(
            f"{folder.path} was trained with another recipe:\n" + "\n".join(changes) + "\n"
            f"Resume with that recipe ({again}), or give a new run another --name. Only "
            "train.steps, microbatch, recompute, shard_optimizer, offload_optimizer, "
            "tensor_parallel and the limits of memory in [train], the paths in [data], the places "
            "of other runs, and the tables eval, checkpoint, log and cost may change."
        )


def check_never_saved(folder: RunFolder) -> None:
    """Refuse to start a run again whose checkpoints were deleted.

    Raises:
        RunError: its log goes beyond the step of its first checkpoint.
    """
    first = load_recipe(folder.recipe).checkpoint.every
    last = max((record["step"] for record in folder.records()), default=0)
    if last > first:
        raise RunError(
            f"{folder.path} has trained to step {last}, but there is no checkpoint in "
            f"{folder.checkpoints}: they were deleted or moved. Bring them back, "
            "or start a new run with another --name."
        )


def restore(built: Built, path: Path, trains: bool = True) -> Progress:
    """Load a checkpoint into a built recipe; returns how far the run had come.

    A checkpoint of imported weights has no optimizer state: training begins at step 0 with them.

    Args:
        built: the parts of the recipe.
        path: the checkpoint.
        trains: whether training goes on, so that the order of its rows must be the same and the
            optimizer's state is needed; as the recipe was built.

    Raises:
        RunError: it was trained on other data, or with other weights of a model that it reads.
        CheckpointError: it is damaged, or belongs to another recipe.
    """
    needless = [] if needs_state(built.recipe, trains) else ["optimizer"]
    offloaded = ["optimizer"] if built.recipe.train.offload_optimizer else []
    trees, state = checkpoint.load(path, stored=needless or offloaded)
    imported = state["data"] is None
    if not imported and state["data"] != built.data.fingerprint:
        raise RunError(
            f"{path} was trained on other data than data.* gives now: the text or the tokenizer "
            "has changed, so it can neither go on nor be measured there. Name the old text (--set "
            "data.path=FILE), or start a new run with another --name."
        )
    if before := state.get("frozen"):
        now = built.inputs().get("frozen", {})
        for role, digest in before.items():
            if now.get(role) != digest:
                raise _other_weights(path, f"objective.{role}", role)
    ordered_by = state.get("curriculum") if trains else None
    if ordered_by and curriculum_fingerprint(built.recipe).get("curriculum") != ordered_by:
        raise _other_weights(path, "curriculum.reference", "reference")
    if built.recipe.adapt is not None:
        restore_base(built.model, read_base(path))
    if imported:
        built.step.train_state.start_from(trees["model"])
    else:
        built.step.train_state.restore(trees, needless)
    done = Progress.from_dict(state)
    built.keep_streams(done.cpu_streams)
    return done


def _other_weights(path: Path, key: str, role: str) -> RunError:
    """The error that the run of a recipe's key has other weights than the checkpoint was
    trained with."""
    return RunError(
        f"{path} was trained with other weights of {key} than that run has now: it was trained "
        f"further, or replaced. Bring the old {role} back, or start a new run with another --name."
    )
