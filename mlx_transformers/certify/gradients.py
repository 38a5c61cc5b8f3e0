"""Rows about training: one gradient, computed in two ways."""

from collections.abc import Sequence

import mlx.core as mx

from ..assembly.build import Built
from ..assembly.checks import check_model
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.tree import Tree
from ..models.model import layers_of
from ..objectives.objective import ChunkedKind
from ..trainer.traced import compiling
from .difference import tree_difference
from .row import DoesNotApply, Measured, Row
from .subject import ROWS, Batch, Subject, eager

FIGURE = "relative difference of the gradient"
CHUNK = 7
"""Tokens of a chunk of logits: a number that divides no usual batch."""


def gradient(built: Built, batches: Sequence[Batch]) -> Tree:
    """The sums of a step over microbatches: gradients, weight, loss."""
    # No state is carried into the rows, so that their gradient is the same whenever it is computed.
    fresh = [
        b | {"starts": mx.ones_like(b["starts"])} if "starts" in b else dict(b) for b in batches
    ]
    sums = built.step.gradient(fresh, mx.random.split(mx.random.key(1), len(fresh)))
    mx.eval(sums)
    # Other parts are statistics, such as the largest load of an expert, which need not add up.
    return {name: sums[name] for name in ("grads", "weight")} | {"loss": sums["parts"]["loss"]}


def accumulated(subject: Subject) -> Measured:
    """Compare microbatches of one row with the whole batch."""
    check_rows_independent(subject)
    with eager():
        full_batch = gradient(subject.plain, [subject.batch])
        parts = gradient(subject.plain, split(subject.batch))
    return Measured(tree_difference(full_batch, parts))


def packed(subject: Subject) -> Measured:
    """Compare two documents in one row with the two apart."""
    objective, sets = subject.recipe.objective, "data.mask_documents=true"
    if "causal_lm" not in subject.plain.model.tasks or set(objective.requires) != {"tokens"}:
        raise DoesNotApply("Its rows are not documents that are packed one behind another.")
    check_rows_independent(subject)
    tokens = subject.batch["tokens"][:1]
    cut = tokens.shape[1] * 2 // 5
    documents = [tokens[:, :cut], tokens[:, cut:]]
    segments = mx.concatenate([mx.full(d.shape, i) for i, d in enumerate(documents)], axis=1)
    with eager():
        try:
            built = subject.built(sets, *subject.still)
            check_model(built.recipe)
            row = gradient(built, [{"tokens": tokens, "segments": segments.astype(mx.int32)}])
        except RecipeError as error:
            raise DoesNotApply(str(error)) from None
        separate = gradient(built, [{"tokens": document} for document in documents])
    return Measured(tree_difference(row, separate))


def compiled(subject: Subject) -> Measured:
    """Compare the compiled step with the same step run eagerly: gradient and update."""
    if not compiling():
        raise DoesNotApply("Compilation is switched off here (MLX_DISABLE_COMPILE).")
    fast, slow = (subject.built(*subject.still) for _ in range(2))
    ours = gradient(fast, [subject.batch])
    with eager():
        theirs = gradient(slow, [subject.batch])
        slow.step.apply(_for_step(theirs))
        mx.eval(slow.step.state)
    fast.step.apply(_for_step(theirs))  # the same: an optimizer may turn rounding into a sign
    mx.eval(fast.step.state)
    updated = [built.model.trainable_parameters() for built in (slow, fast)]
    return Measured(max(tree_difference(theirs, ours), tree_difference(*updated)))


def chunked(subject: Subject) -> Measured:
    """Compare the loss in chunks of tokens with the loss of all logits at once."""
    if not isinstance(subject.recipe.objective, ChunkedKind):
        raise DoesNotApply("Its loss has no logits over the vocabulary that could be chunked.")
    with eager():
        parts, full = (
            gradient(subject.built(f"objective.chunk={n}", *subject.still), [subject.batch])
            for n in (CHUNK, 2**30)
        )
    return Measured(tree_difference(full, parts))


def recomputed(subject: Subject) -> Measured:
    """Compare recomputed activations with stored ones, dropout included."""
    if not layers_of(subject.plain.model):
        raise DoesNotApply("The model has no blocks whose activations could be recomputed.")
    if any(tower.reversible for tower in subject.recipe.model.towers()):
        raise DoesNotApply("A reversible stack stores no activations that could be recomputed.")
    with eager():
        stored, again = (
            gradient(subject.built(f"train.recompute='{which}'"), [subject.batch])
            for which in ("none", "all")
        )
    return Measured(tree_difference(stored, again))


def check_rows_independent(subject: Subject) -> None:
    """Check that the loss of a batch is the sum of those of its rows.

    Raises:
        DoesNotApply: it isn't, by the design of the model or of its objective.
    """
    built, batch = subject.plain, subject.batch
    if reason := subject.recipe.objective.couples_rows:
        raise DoesNotApply(reason)
    if built.step.train_state.carry is not None:
        raise DoesNotApply("Each row carries its state from batch to batch, so it stays in place.")
    if any(len(array) % ROWS for array in batch.values()):
        raise DoesNotApply("Its batches have arrays that don't divide into rows.")
    with eager():
        contexts = [Context(key=mx.random.key(i)) for i in (1, 2)]
        params = built.model.trainable_parameters()
        losses = [built.step.loss(params, batch, ctx).total for ctx in contexts]
        mx.eval(losses)
    if losses[0].item() != losses[1].item():
        raise DoesNotApply(
            "The forward pass draws random numbers beside dropout's, others in each batch."
        )
    if contexts[0].collected.aux or contexts[0].collected.router_sums:
        raise DoesNotApply(
            "An auxiliary loss of its layers is a product of means over a batch, so it is another "
            "one where the batch is split."
        )


def _for_step(sums: Tree) -> Tree:
    return {"grads": sums["grads"], "weight": sums["weight"], "parts": {"loss": sums["loss"]}}


def split(batch: Batch) -> list[Batch]:
    """Cut a batch into its rows."""
    rows: list[Batch] = [{} for _ in range(ROWS)]
    for name, array in batch.items():
        size = len(array) // ROWS
        for i, row in enumerate(rows):
            row[name] = array[i * size : (i + 1) * size]
    return rows


TRAINING = (
    Row(
        "accumulated = whole batch",
        "Gradients accumulated over microbatches are those of the whole batch.",
        FIGURE,
        1e-4,
        accumulated,
    ),
    Row(
        "packed = apart",
        "Documents packed into one row are trained on as if each had a row of its own.",
        FIGURE,
        1e-4,
        packed,
    ),
    Row(
        "compiled = eager",
        "The compiled step computes the gradient and the update of the step that isn't compiled.",
        f"{FIGURE} and of the updated weights",
        1e-4,
        compiled,
    ),
    Row(
        "chunked = full loss",
        "The loss in chunks of tokens is the loss of all logits at once.",
        FIGURE,
        1e-4,
        chunked,
    ),
    Row(
        "recomputed = stored",
        "Gradient checkpointing changes no gradient, dropout included.",
        FIGURE,
        1e-4,
        recomputed,
    ),
)
"""Rows about training."""
