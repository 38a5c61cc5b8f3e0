"""Tasks of encoders: classes of texts and words, answers in a text, masked tokens, contacts."""

from typing import Any

import mlx.core as mx
import numpy as np

from ...assembly.build import Built
from ...core.context import Context
from ...data.batches.alignments import Alignments
from ...data.stream import EvalStream
from ...objectives.classify import correct
from ...objectives.mlm import bidirectional, gather_masked
from ...score.classes import classification, shares
from ...score.contacts import corrected_information, precision
from ...score.interval import mean
from ...score.spans import TAG, best_span, names
from ...score.spans import answers as spans
from .task import TaskOptions, TaskScores, counted_batches


def classify(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure accuracy, macro F1 and Matthews' correlation of sequence classification."""
    labels, predicted = [], []
    for batch, rows in counted_batches(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        logits = built.model.pooled(_features(built, batch, ctx), ctx)
        labels.append(np.array(batch["label"])[:rows])
        predicted.append(np.array(logits.argmax(axis=-1))[:rows])
    all_labels, all_predicted = np.concatenate(labels), np.concatenate(predicted)
    n_classes = int(max(len(built.data.labels), all_predicted.max() + 1))
    return TaskScores(len(all_labels), classification(all_labels, all_predicted, n_classes))


def fill(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the accuracy of masked tokens."""
    hits, masked = [], []
    for batch, rows in counted_batches(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        x = gather_masked(_features(built, batch, ctx), batch)
        logits = built.model.head(x, built.model.embed.table)
        weights = gather_masked(batch["weights"], batch)
        hit = correct(logits, gather_masked(batch["targets"], batch)) * weights
        hits.append(np.array(hit.sum(axis=1))[:rows])
        masked.append(np.array(weights.sum(axis=1))[:rows])
    score = shares("masked_accuracy", np.concatenate(hits), np.concatenate(masked))
    return TaskScores(sum(map(len, hits)), [score])


def tag(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the accuracy of words; for BIO tags also precision, recall and F1 of entities."""
    classes = np.array(built.data.labels)
    targets, predicted = [], []
    for batch, rows in counted_batches(stream):
        logits = _head(built, batch)
        is_word = np.array(batch["weights"])[:rows] > 0
        likeliest = np.array(logits[..., : len(classes)].argmax(axis=-1))
        targets += [row[at] for row, at in zip(np.array(batch["targets"]), is_word, strict=False)]
        predicted += [row[at] for row, at in zip(likeliest, is_word, strict=False)]
    hits = np.array([(a == b).sum() for a, b in zip(targets, predicted, strict=True)])
    scores = [shares("accuracy", hits, np.array(list(map(len, targets))))]
    if all(map(TAG.fullmatch, classes)):
        scores += names([classes[row] for row in targets], [classes[row] for row in predicted])
    return TaskScores(len(targets), scores)


def answer(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure exact match and F1 of the likeliest spans."""
    references, predicted = [], []
    for batch, rows in counted_batches(stream):
        logits = np.array(_head(built, batch).astype(mx.float32))
        logits[~np.array(batch["valid"])] = -np.inf
        best = [best_span(row[:, 0], row[:, 1]) for row in logits[:rows]]
        examples = zip(np.array(batch["tokens"]), np.array(batch["answer"]), best, strict=False)
        for tokens, right, likeliest in examples:
            references.append(_between(built, tokens, *right))
            predicted.append(_between(built, tokens, *likeliest))
    return TaskScores(len(references), spans(references, predicted))


def contacts(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the precision of the N/5 likeliest contacts of N residues, beside the same by mutual
    information; no letter is masked."""
    kind, precisions = built.recipe.data.batch, []
    assert isinstance(kind, Alignments), "contacts are those of batches of alignments"
    for batch, rows in counted_batches(stream):
        ctx = Context()
        bidirectional(ctx, batch)
        x = _features(built, batch | {"tokens": batch["letters"]}, ctx)
        likely = mx.softmax(built.model.pooled(x, ctx).astype(mx.float32), axis=-1)[..., 0]
        names = ("letters", "valid", "pairs", "pair_weights")
        tables = {k: np.array(batch[k]).reshape(len(likely), -1, kind.length) for k in names}
        for i in range(rows):
            row = {name: table[i] for name, table in tables.items()}
            letters = row["letters"][row["valid"].any(axis=1)]
            truth = (row["pairs"] == 0, row["pair_weights"] > 0)
            information = corrected_information(letters, built.data.vocab_size)
            both = (np.array(likely[i]), information)
            precisions.append([precision(scores, *truth) for scores in both])
    by_model, by_information = np.array(precisions).T
    scores = [mean("precision", by_model), mean("mi_precision", by_information)]
    return TaskScores(len(precisions), scores)


def _features(built: Built, batch: dict[str, Any], ctx: Context) -> mx.array:
    return built.model.features(built.model.embedded(batch, ctx), ctx)


def _head(built: Built, batch: dict[str, Any]) -> mx.array:
    ctx = Context()
    bidirectional(ctx, batch)
    logits: mx.array = built.model(batch["tokens"], ctx)
    return logits


def _between(built: Built, tokens: np.ndarray, first: int, last: int) -> str:
    """Decode a span; a span that ends at the first token means "no answer", the empty text."""
    return built.tokenizer.decode(tokens[first : last + 1].tolist()) if last else ""
