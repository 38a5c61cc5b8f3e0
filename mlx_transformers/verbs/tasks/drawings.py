"""Tasks of models that read and write pictures: captions, and drawings judged two ways."""

from pathlib import Path

import mlx.core as mx
import numpy as np

from ...assembly.build import Built
from ...assembly.recipe import load_recipe
from ...assembly.saved import load
from ...core.context import Context
from ...core.errors import RunError
from ...data.batches.image_text import ImageText
from ...data.example_rows import ExampleRows
from ...data.stream import EvalStream
from ...decode.engine import Engine
from ...decode.sample import Sampling
from ...models.clip import ClipModel
from ...objectives.clip import vectors
from ...objectives.mixed_modal import with_codes
from ...objectives.objective import PICTURES
from ...ops.contrastive import unit
from ...runs.folder import find_checkpoint
from ...score.interval import Score
from ...score.retrieval import retrieval
from ...score.spans import answers as spans
from ..drawing import ROWS, Artist
from .pictures import greedy_texts
from .task import TaskOptions, TaskScores

DRAWN = Sampling(temp=0.8)
"""How pictures are drawn: as `mlxt generate` does unless told otherwise."""


def artist_of(built: Built) -> Artist:
    """The artist of a built recipe."""
    models = built.step.loss.roles
    return Artist.of(built.recipe, built.model, built.tokenizer, models[PICTURES])


def held_out_pictures(built: Built, stream: EvalStream) -> tuple[np.ndarray, list[list[int]]]:
    """The held-out pictures `[N, height, width, channels]` and the tokens of their texts; records
    without a picture are left out.

    Raises:
        RunError: none has both.
    """
    assert isinstance(stream.rows, ExampleRows)
    pixels, texts = [], []
    for number in stream.numbers:
        image, before, after, _ = stream.rows.examples.at(int(number))[0]
        text = [*before.tolist(), *after.tolist()]
        if len(image) and text:
            pixels.append(image)
            texts.append(text)
    if not texts:
        raise RunError("No held-out record has a picture and a text: give data that has both.")
    kind = artist_of(built).kind
    return np.stack(pixels).reshape(-1, *kind.shape), texts


def caption(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure exact match and F1 of the words of generated texts after pictures."""
    artist, (pixels, texts) = artist_of(built), held_out_pictures(built, stream)
    tokenizer, model = artist.tokenizer, artist.model
    limit = min(max(map(len, texts)) + 1, model.max_seq_len - artist.kind.patches - 2)
    engine = Engine(model, sampling=Sampling(temp=0.0), vocab_size=tokenizer.n_writable)
    tokens, places = (mx.array(x) for x in artist.kind.laid_out(tokenizer, ([], [])))
    captions = []
    for at in range(0, len(texts), ROWS):
        codes = artist.codes(mx.array(pixels[at : at + ROWS].astype(np.int32)))
        shape = (len(codes), len(tokens))
        rows = with_codes(mx.broadcast_to(tokens, shape), mx.broadcast_to(places, shape), codes)
        prompts = np.array(rows).tolist()
        token_lists = greedy_texts(engine, prompts, tokenizer.control("end"), limit)
        captions += [tokenizer.decode(text) for text in token_lists]
    references = [tokenizer.decode(text) for text in texts]
    return TaskScores(len(texts), spans(references, captions))


def draw(built: Built, stream: EvalStream, options: TaskOptions) -> TaskScores:
    """Measure how high the picture of a text is ranked by its distance from the drawing of that
    text, among all held-out pictures; with a judge, also how high a CLIP model ranks the text by
    the drawing, and by the picture itself. Equal texts are equally right."""
    artist, (pixels, texts) = artist_of(built), held_out_pictures(built, stream)
    names = [artist.tokenizer.decode(text) for text in texts]
    drawn = artist.draw([artist.picture_prompt(name) for name in names], DRAWN)
    _, number = np.unique(names, return_inverse=True)
    right = number[:, None] == number[None, :]
    scores = retrieval("picture", -_distances(drawn, pixels), right)
    if options.judge is not None:
        scores += recall_by_clip(options.judge, names, right, {"drawn": drawn, "given": pixels})
    return TaskScores(len(names), scores)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared differences `[N, M]` of pictures, with numbers from 0 to 1."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) / 255 for x in (a, b))
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None]
    distances: np.ndarray = (squares - 2 * a @ b.T) / a.shape[1]
    return distances


def recall_by_clip(
    run: str | Path, names: list[str], right: np.ndarray, pictures: dict[str, np.ndarray]
) -> list[Score]:
    """Recall of texts by sets of pictures `[N, height, width, channels]`, ranked by a CLIP model.

    Raises:
        RunError: the run is no CLIP model, or reads other pictures.
    """
    folder, checkpoint = find_checkpoint(run)
    recipe = load_recipe(folder.recipe)
    model, tokenizer = load(checkpoint)
    kind = recipe.data.batch
    if not isinstance(model, ClipModel) or not isinstance(kind, ImageText):
        raise RunError(
            f"--judge {run} is no CLIP model (model.kind = 'clip'): train one on the same "
            "corpus with mlxt train recipes/multimodal/clip_tiny.toml."
        )
    have = next(iter(pictures.values())).shape[1:]
    if kind.shape != have:
        sizes = [" x ".join(map(str, shape)) for shape in (kind.shape, have)]
        raise RunError(
            f"--judge {run} reads pictures of {sizes[0]} numbers, and the drawings have "
            f"{sizes[1]}: train it with data.batch.size and channels (and model.vision) to match."
        )
    seq_len, scores = recipe.train.seq_len, []
    rows = [kind.framed(tokenizer, tokenizer.encode(name), seq_len) for name in names]
    padded = {
        key: np.stack([np.pad(row[key], (0, seq_len - len(row[key]))) for row in rows])
        for key in ("tokens", "valid")
    }
    for name, drawn in pictures.items():
        embedded: list[tuple[np.ndarray, ...]] = []
        for at in range(0, len(names), ROWS):
            arrays = {"pixels": drawn.astype(np.int32)} | padded
            batch = {key: mx.array(array[at : at + ROWS]) for key, array in arrays.items()}
            embedded.append(tuple(np.array(unit(v)) for v in vectors(model, batch, Context())))
        of_pictures, of_texts = (np.concatenate(part) for part in zip(*embedded, strict=True))
        scores += retrieval(f"{name}_text", of_pictures @ of_texts.T, right)
    return scores
