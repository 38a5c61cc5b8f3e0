"""Callbacks of a training run, in the order in which the loop calls them after each step."""

import warnings
from collections.abc import Callable
from functools import partial

import mlx.core as mx
from mlx.utils import tree_map

from ..core.device import matmul_flops
from ..core.errors import MlxtError, RecipeError
from ..core.tree import Tree
from ..decode.generate import sampler
from ..memory.meter import Meter
from ..memory.record import run_key
from ..models.model import Decodable, causal_decoder
from ..runs import checkpoint
from ..runs.background import Background
from ..runs.folder import RunFolder
from ..runs.progress import Progress
from ..trainer.callbacks import Evaluate, Report, RunWarning, Sample, Save, ShowStatus, Sink
from ..trainer.health import Health
from ..trainer.loop import Callback
from ..trainer.metrics import Window
from .build import Built
from .curriculum_order import curriculum_fingerprint
from .plan import Plan
from .streams import held_out_batches, mixed_batches


def callbacks(
    built: Built,
    folder: RunFolder | None,
    sinks: list[Sink],
    status: ShowStatus = lambda text: None,
) -> list[Callback]:
    """Reports, samples, evaluations and checkpoints, as the recipe asks for them.

    Every rank needs them, since evaluating and saving exchange arrays; a rank without a folder
    writes nothing. Saving comes after evaluation, since a checkpoint holds its decisions, and
    before samples, which then can't cost a checkpoint.
    """
    recipe, ranks = built.recipe, built.step.train_state.ranks
    peak_flops = sum(ranks.gather(matmul_flops(built.step.dtype)))
    window = Window(built.flops_per_token, peak_flops)
    report = Report(recipe.log, window, sinks, recipe.train.nonfinite == "stop", status)
    callbacks: list[Callback] = [Health(), report]
    callbacks.append(
        Evaluate(
            recipe.eval,
            built.evaluator,
            lambda: held_out_batches(built, recipe.eval.batches),
            lambda: mixed_batches(built, recipe.eval.batches),
            report,
            recipe.objective.best,
        )
    )
    background = Background()
    save = _saver(built, folder, background)
    callbacks.append(Save(recipe.checkpoint, save, window, background))
    if recipe.log.sample_every is not None and (folder or built.step.train_state.tensor_parallel):
        try:
            sample = sampler(_decoder(built), built.tokenizer, recipe.log.sample_prompt)
        except MlxtError as error:
            warnings.warn(f"No samples (log.sample_prompt): {error}", RunWarning, stacklevel=2)
        else:
            callbacks.append(Sample(recipe.log.sample_every, sample, report))
    return callbacks


def _decoder(built: Built) -> Decodable:
    """The model, which samples continue a prompt with.

    Raises:
        RecipeError: it generates nothing from a prompt alone.
    """
    decoder = causal_decoder(built.model)
    if decoder is None:
        raise RecipeError(
            f"model.kind = '{built.recipe.model.kind}' doesn't continue a prompt: leave "
            "log.sample_every out."
        )
    return decoder


def memory_meter(built: Built, planned: Plan) -> Meter:
    """Measures the peak of the first steps, before a sample or an evaluation adds to it; nothing
    where their rows are shorter than the later ones."""
    first_other = min(
        built.recipe.eval.every, built.recipe.log.sample_every or built.recipe.eval.every
    )
    full_length = built.recipe.train.seq_len_warmup is None
    key = run_key(built.recipe.model)
    return Meter(planned.account.peak, planned.factor, first_other if full_length else 0, key)


def _saver(
    built: Built, folder: RunFolder | None, background: Background
) -> Callable[[Progress, bool], None]:
    """Write checkpoints to `folder`; without one, only send this rank's share to rank 0."""
    config = built.recipe.checkpoint
    inputs = built.inputs() | curriculum_fingerprint(built.recipe) if folder else {}

    def save(progress: Progress, best: bool) -> None:
        trees = built.step.train_state.gather()
        if folder is None:
            return
        place, state = folder.checkpoints, progress.to_dict() | inputs

        def write(trees: dict[str, Tree]) -> None:
            checkpoint.save(place, progress.step, trees, state, best=best)
            checkpoint.prune(place, config.keep)

        if config.in_background:
            # Arrays of this step in containers of their own, computed before the thread reads them.
            copies = tree_map(mx.contiguous, trees)
            mx.eval(copies)
            background.start(partial(write, copies))
        else:
            write(trees)

    return save
