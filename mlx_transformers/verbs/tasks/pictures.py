"""Tasks of pictures and texts: retrieval, captions, and reconstruction from tokens."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ...assembly.build import Built
from ...core.context import Context
from ...data.stream import EvalStream
from ...decode.engine import Engine
from ...decode.sample import Sampling
from ...models.clip import ClipModel
from ...models.vlm import VlmModel
from ...models.vqvae import VqvaeModel
from ...objectives.clip import vectors
from ...ops.contrastive import unit
from ...score.interval import Score, mean, scored
from ...score.retrieval import retrieval
from ...score.spans import answers as spans
from .seq2seq import examples
from .task import TaskOptions, TaskScores, counted_batches


def retrieve(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the recall of texts by their pictures, and of pictures by their texts, among all
    held-out pairs. Equal texts are equally right."""
    model = built.model
    assert isinstance(model, ClipModel), "the objective trains models of two towers alone"
    pictures, texts, rows_of = [], [], []
    for batch, rows in counted_batches(stream):
        of_pictures, of_texts = vectors(model, batch, Context())
        pictures.append(np.array(unit(of_pictures))[:rows])
        texts.append(np.array(unit(of_texts))[:rows])
        rows_of += [row.tobytes() for row in np.array(batch["tokens"])[:rows]]
    cosines = np.concatenate(pictures) @ np.concatenate(texts).T
    _, number = np.unique(rows_of, return_inverse=True)
    right = number[:, None] == number[None, :]
    scores = [*retrieval("text", cosines, right), *retrieval("image", cosines.T, right)]
    return TaskScores(len(right), scores)


def describe(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure exact match and F1 of the words of generated texts about pictures."""
    model, tokenizer = built.model, built.tokenizer
    assert isinstance(model, VlmModel), "batches of captions are for vision-language models"
    vocab_size = min(model.vocab_size, tokenizer.vocab_size)
    engine = Engine(model, sampling=Sampling(temp=0.0), vocab_size=vocab_size)
    predicted: list[str] = []
    for batch, rows in counted_batches(stream):
        tokens, weights = np.array(batch["tokens"]), np.array(batch["weights"])
        starts = weights.argmax(axis=1) + 1
        prompts = [row[:start].tolist() for row, start in zip(tokens, starts, strict=True)]
        limit = int(weights.sum(axis=1).max())
        end = tokenizer.control("end")
        texts = greedy_texts(engine, prompts, end, limit, pixels=batch["pixels"])
        predicted += [tokenizer.decode(text) for text in texts[:rows]]
    references = [tokenizer.decode(text[:-1].tolist()) for *_, text in examples(stream)]
    return TaskScores(len(references), spans(references, predicted))


def reconstruct(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure the mean squared error of pictures that are decoded from their tokens, with numbers
    from 0 to 1, the peak signal-to-noise ratio (PSNR, in dB), and the share of the codes used."""
    model = built.model
    assert isinstance(model, VqvaeModel), "the objective trains VQ-VAEs alone"
    errors, used = [], []
    for batch, rows in counted_batches(stream):
        indices = model.picture_tokens(batch["pixels"])
        off = (model.pictures(indices).astype(mx.float32) - batch["pixels"]) / 255
        errors.append(np.array(mx.square(off).reshape(len(off), -1).mean(axis=1))[:rows])
        used.append(np.array(indices)[:rows])
    squares, chosen = np.concatenate(errors), np.concatenate(used)
    n = len(squares)
    # Examples that are drawn again can only use fewer codes: this one has no interval.
    used_codes = len(np.unique(chosen)) / model.n_codes
    return TaskScores(
        n,
        [
            mean("mse", squares),
            scored("psnr", n, lambda i: -10 * float(np.log10(squares[i].mean()))),
            Score("used_codes", used_codes, used_codes, used_codes),
        ],
    )


def greedy_texts(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    end: int,
    limit: int,
    *,
    pixels: mx.array | None = None,
) -> list[list[int]]:
    """Return the tokens after each prompt, up to the token `end`, of at most `limit`, in one batch.

    Args:
        engine: an engine that takes the most probable token.
        prompts: tokens before each text.
        end: the token that ends a text; it is left out.
        limit: the most tokens of a text.
        pixels: the pictures that the prompts refer to.
    """
    engine.start(prompts, given={} if pixels is None else {"pixels": pixels})
    rows: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))
    for tokens in engine.tokens(limit):
        for i in sorted(unfinished):
            if tokens[i] == end:
                unfinished.remove(i)
            else:
                rows[i].append(tokens[i])
        if not unfinished:
            break
    return rows
