"""Whether a run can be gone on with, and where: what `--resume` means."""

from pathlib import Path

from ..assembly.recipe import Recipe, load_recipe
from ..core.errors import RunError
from ..recipe.show import diff
from ..runs.folder import RunFolder, check_new, find, named_checkpoint
from ..runs.progress import Progress

FREE = (
    *("train.steps", "train.microbatch", "train.recompute"),
    *("train.shard_optimizer", "train.tensor_parallel"),
    *("train.cache_limit_gib", "train.wired_limit_gib"),
    "data.tokenizer.path",
    *("eval.", "checkpoint.", "log."),
)
"""Keys that may change when a run is resumed: they don't touch what has been computed."""

OVER = {
    "finished": "has all of its {} steps already.",
    "stopped early": "stopped early at step {}. Raise eval.patience to go on.",
}


def over(recipe: Recipe, done: Progress) -> str | None:
    """Why there is nothing left to do, or None."""
    if done.step >= recipe.train.steps:
        return "finished"
    return "stopped early" if done.stopped_early(recipe.eval.patience) else None


def place(
    stem: str, name: str | None, resume: str | Path | None, root: Path
) -> tuple[RunFolder, Path | None] | None:
    """The run to continue and the checkpoint that was named, or None where a new run begins."""
    if resume is None:
        check_new(name, root)
        return None
    if str(resume) == "auto":
        folder = RunFolder(root / (name or stem))
        return (folder, None) if folder.recipe.is_file() else None
    found = named_checkpoint(Path(resume)) or (find(resume, root), None)
    if name is not None and name != found[0].name:
        raise RunError(
            f"--resume {resume} continues the run '{found[0].name}', so --name {name} has no "
            "meaning: leave it out."
        )
    return found


def check_same(folder: RunFolder, recipe: Recipe) -> None:
    """Raises RunError where a run would go on with another recipe than it began with."""
    changes = [
        f"  {path}: {was!r} there, {now!r} here"
        for path, was, now in diff(load_recipe(folder.recipe), recipe)
        if not path.startswith(FREE)
    ]
    if changes:
        raise RunError(
            f"{folder.path} was trained with another recipe:\n" + "\n".join(changes) + "\n"
            "Resume with that recipe, or give a new run another --name. Only train.steps, "
            "microbatch, recompute, shard_optimizer, tensor_parallel and the limits of memory in "
            "[train], data.tokenizer.path, and the tables eval, checkpoint and log may change."
        )
