"""Tasks of models that write a target for a source: translation, summaries, transcripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...assembly.build import Built
from ...data.batches.pairs import Pairs
from ...data.example_rows import ExampleRows
from ...data.stream import EvalStream
from ...decode.beam import Beams, best_targets
from ...models.model import Decodable
from ...score.interval import Score
from ...score.texts import leads, summarization, translation
from ...score.words import word_errors
from ..transcribe import Recognizer
from .task import Group, TaskOptions, TaskScores, counted_batches


def translate(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure BLEU and chrF of generated targets."""
    texts = generate_targets(built, stream, options.beams)
    return score_by_length(texts, options.lengths, _bleu_and_chrf)


def summarize(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure ROUGE of generated targets, and of the lead baseline: the sources' beginnings."""
    texts = generate_targets(built, stream, options.beams)
    return score_by_length(texts, options.lengths, _rouge_and_lead)


def transcribe(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the word error rate of transcripts of held-out sounds."""
    recognizer, transcripts = Recognizer.of(built.recipe, built.model, built.tokenizer), []
    for batch, rows in counted_batches(stream):
        transcripts += recognizer.texts(batch["frames"], options.beams)[:rows]
    references = [built.tokenizer.decode(text) for _, text in examples(stream)]
    return TaskScores(len(references), word_errors(references, transcripts))


@dataclass(frozen=True)
class GeneratedText:
    """A source, the generated target, and the reference, not truncated."""

    source: str
    generated: str
    reference: str

    @property
    def words(self) -> int:
        """Number of words of the source."""
        return len(self.source.split())


def generate_targets(built: Built, stream: EvalStream, beams: Beams) -> list[GeneratedText]:
    """Generate a target for each source."""
    tokenizer, kind, model = built.tokenizer, built.recipe.data.batch, built.model
    assert isinstance(kind, Pairs), "tasks that write are for runs with data.batch 'pairs'"
    assert isinstance(model, Decodable), "models of tasks that write have a decoder"
    limit = min(kind.longest_target(built.recipe.train.seq_len), model.max_seq_len - 1)
    generated = []
    for batch, rows in counted_batches(stream):
        ranked = best_targets(
            model,
            batch["source"],
            batch["source_valid"],
            start=tokenizer.control(kind.start),
            end=tokenizer.control("end"),
            limit=limit,
            beams=beams,
            vocab_size=min(model.vocab_size, tokenizer.vocab_size),
        )
        generated += [tokenizer.decode(best[0].tokens) for best in ranked[:rows]]
    texts = []
    for text, (source, target) in zip(generated, examples(stream), strict=True):
        without_prefix = tokenizer.decode(source).removeprefix(kind.prefix)
        texts.append(GeneratedText(without_prefix, text, tokenizer.decode(target)))
    return texts


def _bleu_and_chrf(texts: Sequence[GeneratedText]) -> list[Score]:
    return translation([text.generated for text in texts], [text.reference for text in texts])


def _rouge_and_lead(texts: Sequence[GeneratedText]) -> list[Score]:
    references = [text.reference for text in texts]
    scores = summarization([text.generated for text in texts], references)
    baseline = summarization(leads([text.source for text in texts], references), references)
    return [*scores, *(replace(score, name=f"lead_{score.name}") for score in baseline)]


def score_by_length(
    texts: Sequence[GeneratedText],
    lengths: Sequence[int],
    score: Callable[[Sequence[GeneratedText]], list[Score]],
) -> TaskScores:
    """Score all texts together and in groups of source length; empty groups are left out."""
    if not lengths:
        return TaskScores(len(texts), score(texts))
    groups = []
    lasts = [n - 1 for n in lengths]
    for first, last in zip((1, *lengths), (*lasts, None), strict=True):
        within = [t for t in texts if first <= t.words and (last is None or t.words <= last)]
        if within:
            groups.append(Group(first, last, len(within), score(within)))
    return TaskScores(len(texts), score(texts), groups)


def examples(stream: EvalStream) -> list[tuple[np.ndarray, ...]]:
    """The fields of the evaluated records as tokens, not truncated, in order."""
    assert isinstance(stream.rows, ExampleRows)
    return [stream.rows.examples.at(int(i))[0] for i in stream.numbers]
