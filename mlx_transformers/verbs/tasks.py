"""Measures a run at a task, in the metrics of its field: `mlxt eval --task`.

A task names the objective and the batches of its runs, predicts every held-out example with the
model, and scores the predictions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..assembly.build import Built
from ..assembly.streams import validation_stream
from ..core.context import Context
from ..core.errors import RunError, unknown
from ..data.batches.alignments import Alignments
from ..data.batches.pairs import Pairs
from ..data.example_rows import ExampleRows
from ..data.prepare import Progress as Preparing
from ..data.stream import EvalStream
from ..decode.beam import Beams, best_targets
from ..models.model import Decodable
from ..objectives.classify import correct
from ..objectives.mlm import bidirectional, gather_masked
from ..runs.folder import RUNS
from ..score.classes import classification, shares
from ..score.contacts import corrected_information, precision
from ..score.interval import Score, mean
from ..score.spans import TAG, best_span, names
from ..score.spans import answers as spans
from ..score.texts import leads, summarization, translation
from ..score.words import word_errors
from .answers import Answers, Group, Writing, counted
from .drawing_tasks import caption, draw
from .evaluate import open_run
from .listen import Listener
from .picture_tasks import describe, reconstruct, retrieve


@dataclass(frozen=True)
class Task:
    """A task that runs can be measured at.

    Attributes:
        objective: kind of the objective of its runs.
        batch: kind of their batches.
        measure: predicts the held-out examples and scores the predictions.
        writes: whether it searches for texts, so that `Writing` matters.
        draws: whether its drawings can be judged.
    """

    objective: str
    batch: str
    measure: Callable[[Built, EvalStream, Writing], Answers]
    writes: bool = False
    draws: bool = False


@dataclass(frozen=True)
class Measured:
    """The scores of a checkpoint at a task."""

    checkpoint: Path
    task: str
    examples: int
    scores: list[Score]
    groups: list[Group]


def measure(
    run: str | Path | None,
    task: str,
    *,
    batches: int | None = None,
    writing: Writing | None = None,
    root: Path = RUNS,
    progress: Preparing | None = None,
    set: Sequence[str] = (),
) -> Measured:
    """Measure a run's best checkpoint, or the one named, at a task, on held-out data.

    Args:
        run: a run's name or folder, or one of its checkpoints; None is the newest run.
        task: one of `TASKS`.
        batches: number of batches, spread evenly over the split; None takes all.
        writing: settings of generation and groups; None decodes greedily.
        root: the folder of runs.
        progress: called while the data is prepared.
        set: "path=value" strings that say where the data is now.

    Raises:
        MlxtError: there is no such task or run, or the run was trained for another one.
    """
    if task not in TASKS:
        raise RunError(unknown("task", task, TASKS))
    chosen, writing = TASKS[task], writing or Writing()
    if writing.searches and not chosen.writes:
        raise RunError(
            f"The task '{task}' writes no text by a search: beams and lengths have no effect. "
            "Leave them out."
        )
    if writing.judge is not None and not chosen.draws:
        raise RunError(f"The task '{task}' draws nothing that --judge could see: leave it out.")
    path, built = open_run(run, root, progress, set)
    other = ALSO.get(task)
    if other is not None and _suits(built, other):
        chosen = other
    _check_run(built, task, chosen)
    built.model.update(built.step.train_state.evaluated())
    built.model.eval()
    found = chosen.measure(built, validation_stream(built, batches), writing)
    return Measured(path, task, found.examples, found.scores, found.groups)


def _suits(built: Built, task: Task) -> bool:
    """Whether a run was trained for a task."""
    recipe = built.recipe
    return (recipe.objective.kind, recipe.data.batch.kind) == (task.objective, task.batch)


def _check_run(built: Built, name: str, task: Task) -> None:
    """Refuse a run that was trained for something else."""
    is_for, made_of = built.recipe.objective.kind, built.recipe.data.batch.kind
    if not _suits(built, task):
        known = [*TASKS.items(), *ALSO.items()]
        others = [n for n, t in known if _suits(built, t)]
        hint = f" It can be measured at: {', '.join(others)}." if others else ""
        raise RunError(
            f"The task '{name}' is for runs with objective '{task.objective}' and data.batch "
            f"'{task.batch}'; this one has '{is_for}' and '{made_of}'.{hint}"
        )


def classify(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure accuracy, macro F1 and Matthews' correlation of sequence classification."""
    labels, said = [], []
    for batch, rows in counted(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        logits = built.model.pooled(_features(built, batch, ctx), ctx)
        said.append(np.array(logits.argmax(axis=-1))[:rows])
        labels.append(np.array(batch["label"])[:rows])
    all_labels, all_said = np.concatenate(labels), np.concatenate(said)
    n_classes = int(max(len(built.data.labels), all_said.max() + 1))
    return Answers(len(all_labels), classification(all_labels, all_said, n_classes))


def _features(built: Built, batch: dict[str, Any], ctx: Context) -> mx.array:
    return built.model.features(built.model.embedded(batch, ctx), ctx)


def fill(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure the accuracy of masked tokens."""
    right, asked = [], []
    for batch, rows in counted(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        x = gather_masked(_features(built, batch, ctx), batch)
        logits = built.model.head(x, built.model.embed.table)
        weights = gather_masked(batch["weights"], batch)
        hit = correct(logits, gather_masked(batch["targets"], batch)) * weights
        right.append(np.array(hit.sum(axis=1))[:rows])
        asked.append(np.array(weights.sum(axis=1))[:rows])
    all_right, all_asked = np.concatenate(right), np.concatenate(asked)
    return Answers(len(all_asked), [shares("masked_accuracy", all_right, all_asked)])


def tag(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure the accuracy of words; for BIO tags also precision, recall and F1 of entities."""
    classes = np.array(built.data.labels)
    are, said = [], []
    for batch, rows in counted(stream):
        logits = _head(built, batch)
        words = np.array(batch["weights"])[:rows] > 0
        told = np.array(logits[..., : len(classes)].argmax(axis=-1))
        are += [row[kept] for row, kept in zip(np.array(batch["targets"]), words, strict=False)]
        said += [row[kept] for row, kept in zip(told, words, strict=False)]
    right = np.array([(a == b).sum() for a, b in zip(are, said, strict=True)])
    scores = [shares("accuracy", right, np.array(list(map(len, are))))]
    if all(map(TAG.fullmatch, classes)):
        scores += names([classes[row] for row in are], [classes[row] for row in said])
    return Answers(len(are), scores)


def answer(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure exact match and F1 of the likeliest spans."""
    are, said = [], []
    for batch, rows in counted(stream):
        logits = np.array(_head(built, batch).astype(mx.float32))
        logits[~np.array(batch["valid"])] = -np.inf
        found = [best_span(row[:, 0], row[:, 1]) for row in logits[:rows]]
        told = zip(np.array(batch["tokens"]), np.array(batch["answer"]), found, strict=False)
        for tokens, right, likeliest in told:
            are.append(_between(built, tokens, *right))
            said.append(_between(built, tokens, *likeliest))
    return Answers(len(are), spans(are, said))


def _head(built: Built, batch: dict[str, Any]) -> mx.array:
    ctx = Context()
    bidirectional(ctx, batch)
    logits: mx.array = built.model(batch["tokens"], ctx)
    return logits


def _between(built: Built, tokens: np.ndarray, first: int, last: int) -> str:
    """Decode a span; a span that ends at the first token means "no answer", the empty text."""
    return built.tokenizer.decode(tokens[first : last + 1].tolist()) if last else ""


def contacts(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure the precision of the N/5 likeliest contacts of N residues, beside the same by mutual
    information; no letter is masked."""
    kind, found = built.recipe.data.batch, []
    assert isinstance(kind, Alignments), "contacts are those of batches of alignments"
    for batch, rows in counted(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        x = _features(built, batch | {"tokens": batch["letters"]}, ctx)
        likely = mx.softmax(built.model.pooled(x, ctx).astype(mx.float32), axis=-1)[..., 0]
        named = ("letters", "valid", "pairs", "pair_weights")
        tables = {k: np.array(batch[k]).reshape(len(likely), -1, kind.length) for k in named}
        for i in range(rows):
            row = {name: table[i] for name, table in tables.items()}
            letters = row["letters"][row["valid"].any(axis=1)]
            truth = (row["pairs"] == 0, row["pair_weights"] > 0)
            told = (np.array(likely[i]), corrected_information(letters, built.data.vocab_size))
            found.append([precision(scores, *truth) for scores in told])
    model, information = np.array(found).T
    return Answers(len(found), [mean("precision", model), mean("mi_precision", information)])


@dataclass(frozen=True)
class Text:
    """A source, the generated target, and the reference, not truncated."""

    source: str
    generated: str
    reference: str

    @property
    def words(self) -> int:
        """Number of words of the source."""
        return len(self.source.split())


def transcribe(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure the word error rate of what is heard in held-out sounds."""
    listener, heard = Listener.of(built.recipe, built.model, built.tokenizer), []
    for batch, rows in counted(stream):
        heard += listener.texts(batch["frames"], writing.beams)[:rows]
    said = [built.tokenizer.decode(text) for _, text in examples(stream)]
    return Answers(len(said), word_errors(said, heard))


def translate(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure BLEU and chrF of generated targets."""
    return in_groups(written(built, stream, writing.beams), writing.lengths, _beside_references)


def _beside_references(texts: Sequence[Text]) -> list[Score]:
    return translation([text.generated for text in texts], [text.reference for text in texts])


def summarize(built: Built, stream: EvalStream, writing: Writing) -> Answers:
    """Measure ROUGE of generated targets, and of the lead baseline: the sources' beginnings."""
    return in_groups(written(built, stream, writing.beams), writing.lengths, _beside_leads)


def _beside_leads(texts: Sequence[Text]) -> list[Score]:
    said = [text.generated for text in texts]
    references = [text.reference for text in texts]
    beginnings = summarization(leads([text.source for text in texts], references), references)
    lead = [replace(score, name=f"lead_{score.name}") for score in beginnings]
    return [*summarization(said, references), *lead]


def in_groups(
    texts: Sequence[Text], lengths: Sequence[int], score: Callable[[Sequence[Text]], list[Score]]
) -> Answers:
    """Score all texts together and in groups of source length; empty groups are left out."""
    if not lengths:
        return Answers(len(texts), score(texts))
    groups = []
    lasts = [n - 1 for n in lengths]
    for first, last in zip((1, *lengths), (*lasts, None), strict=True):
        within = [t for t in texts if first <= t.words and (last is None or t.words <= last)]
        if within:
            groups.append(Group(first, last, len(within), score(within)))
    return Answers(len(texts), score(texts), groups)


def written(built: Built, stream: EvalStream, beams: Beams) -> list[Text]:
    """Generate a target for each source."""
    tokenizer, kind, model = built.tokenizer, built.recipe.data.batch, built.model
    assert isinstance(kind, Pairs), "tasks that write are for runs with data.batch 'pairs'"
    assert isinstance(model, Decodable), "models of tasks that write have a decoder"
    limit = min(kind.longest_target(built.recipe.train.seq_len), model.max_seq_len - 1)
    generated = []
    for batch, rows in counted(stream):
        found = best_targets(
            model,
            batch["source"],
            batch["source_valid"],
            start=tokenizer.control(kind.start),
            end=tokenizer.control("end"),
            limit=limit,
            beams=beams,
            vocab_size=min(model.vocab_size, tokenizer.vocab_size),
        )
        generated += [tokenizer.decode(best[0].tokens) for best in found[:rows]]
    return [
        Text(tokenizer.decode(source).removeprefix(kind.prefix), one, tokenizer.decode(target))
        for one, (source, target) in zip(generated, examples(stream), strict=True)
    ]


def examples(stream: EvalStream) -> list[tuple[np.ndarray, ...]]:
    """The fields of the evaluated records as tokens, not truncated, in order."""
    assert isinstance(stream.rows, ExampleRows)
    return [stream.rows.examples.at(int(i))[0] for i in stream.numbers]


TASKS = {
    "classification": Task("classify", "labeled", classify),
    "masked": Task("mlm", "mlm", fill),
    "tagging": Task("tag", "tagged", tag),
    "answers": Task("answer", "answers", answer),
    "contacts": Task("distogram", "alignments", contacts),
    "transcription": Task("transcribe", "transcripts", transcribe, writes=True),
    "translation": Task("seq2seq", "pairs", translate, writes=True),
    "summarization": Task("seq2seq", "pairs", summarize, writes=True),
    "retrieval": Task("clip", "image_text", retrieve),
    "captions": Task("clm", "captions", describe),
    "reconstruction": Task("vqvae", "images", reconstruct),
    "drawings": Task("mixed_modal", "mixed_modal", draw, draws=True),
}
"""Every task by name."""

ALSO = {"captions": Task("mixed_modal", "mixed_modal", caption)}
"""Tasks that runs of another kind are measured at, too."""
