"""The inside of a model while it reads a text: attention, residual stream, logit lens, predictions.

from mlx_transformers import load, look

model, tokenizer = load("runs/induction")
seen = look(model, tokenizer, "a3 ! a5 a1 !")
seen.layers[1].weights            # [H, T, S]
seen.predictions.probability      # [T]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..core.errors import MlxtError, RunError
from ..data.batches.pairs import Pairs
from ..data.tokenizers.tokenizer import Tokenizer
from ..models.model import Aligning, Model
from .attribution import Attribution, attribute
from .embeddings import Embeddings, embeddings
from .heads import Head, head_scores
from .influence import influences
from .predictions import Lens, Predictions, lens, predict
from .reading import Reading, read
from .trace import LayerTrace, Place, Trace, places


@dataclass(frozen=True)
class Layer:
    """One layer of a tower.

    Attributes:
        tower: `encoder` or `decoder`.
        mixer: kind of its mixer.
        kind: what `weights` are: `attention`; `implied`, the matrix of a mixer that never forms
            it; `influence`, how much the mixer's output at t depends on its input at s; "" where
            there is none.
        weights: `[H, T, S]`, of which row t says what position t reads.
        cross: `[H, T, S]`, weights over the source, if it reads one.
        stream: length of the residual stream's vectors after the layer, `[T]`.
        added: length of the term that each sublayer adds, `[T]` by its name.
        experts: gate of each expert, `[T, E]`, 0 where it isn't chosen.
        routed: whether a routed block ran on a token (mixture of depths), `[T]`.
        lens: predictions from the layer's output, by the model's own norm and head.
    """

    tower: str
    mixer: str
    kind: str
    weights: np.ndarray | None
    cross: np.ndarray | None
    stream: np.ndarray
    added: dict[str, np.ndarray]
    experts: np.ndarray | None
    routed: np.ndarray | None
    lens: Lens | None


@dataclass(frozen=True)
class Look:
    """The results of `look`. Positions are those of `tokens`, T, and of the source, S.

    Attributes:
        tokens: texts of the tokens that the model read.
        source: texts of the encoder's tokens; empty: no source.
        predicts: `next` where a position predicts the next token, `own` where its own.
        predictions: probabilities of the tokens, and of others in their place.
        layers: all layers, in the order that they run.
        heads: scores of the heads of self-attention, and the names that they give.
        alignment: `[T, S]`, attention of a recurrent decoder over its source.
        steps: steps of each token before it halted (adaptive computation time), `[T]`.
        attribution: by gradients, to which tokens the last prediction is due.
        embeddings: neighbours of the tokens, and similarities of positions.
    """

    tokens: list[str]
    source: list[str]
    predicts: str
    predictions: Predictions
    layers: list[Layer]
    heads: list[Head]
    alignment: np.ndarray | None
    steps: np.ndarray | None
    attribution: Attribution
    embeddings: Embeddings | None


def look(
    model: Model,
    tokenizer: Tokenizer,
    text: str,
    *,
    pairs: Pairs | None = None,
    target: str | None = None,
    image: Path | None = None,
) -> Look:
    """Look into a model while it reads a text.

    Args:
        model, tokenizer: those of a run, as `load` gives them.
        text: a prompt, an encoder's text, or the source of an encoder-decoder.
        pairs: how an encoder-decoder's source and target are framed; None: as usual.
        target: of an encoder-decoder; None: the one that it writes itself, greedily.
        image: a picture file, for a model that sees.

    Raises:
        RunError: the text is empty or too long, the model is reversible, or it has no head over the
            vocabulary.
    """
    return look_into(read(model, tokenizer, text, pairs=pairs, target=target, image=image))


def look_into(reading: Reading) -> Look:
    """`look`, for a text that is tokenized already."""
    model, trace = reading.model, Trace()
    logits = reading.run(trace)[0]
    mx.eval(logits, [t.arrays for t in trace.layers])
    predictions = predict(reading, logits)
    slots = places(model)
    if len(trace.layers) > len(slots):
        raise RunError(
            f"{len(trace.layers)} layers ran, and the model has {len(slots)}, so they can't be "
            "distinguished. Look at a model whose depth runs each layer once."
        )
    # A tower that this text doesn't need, such as that of pictures, runs before the others.
    slots = slots[len(slots) - len(trace.layers) :]
    depends = influences(reading, [t.matrix() is None for t in trace.layers])
    layers = [
        _layer(reading, place, recorded, depends[i], logits)
        for i, (place, recorded) in enumerate(zip(slots, trace.layers, strict=False))
    ]
    return Look(
        tokens=reading.texts(),
        source=[reading.text(token) for token in reading.source],
        predicts="next" if reading.ahead else "own",
        predictions=predictions,
        layers=layers,
        heads=head_scores(reading, [(layer.tower, layer.weights) for layer in layers]),
        alignment=_alignment(reading) if not layers else None,
        steps=_row(trace.rest.get("steps")),
        attribution=attribute(reading, logits),
        embeddings=embeddings(reading),
    )


def _layer(
    reading: Reading,
    place: Place,
    recorded: LayerTrace,
    depends: np.ndarray | None,
    logits: mx.array,
) -> Layer:
    """The arrays of one layer."""
    matrix_kind = recorded.matrix()
    kind = "" if depends is None else "influence"
    if matrix_kind is not None:
        kind = matrix_kind
    cross = recorded.arrays.get("cross_attention")
    output = recorded.arrays["layer_output"]
    last = place.tower == "decoder" or not reading.ahead
    names: Sequence[str] = place.sublayers
    if len(names) != len(recorded.added):
        names = [f"term {i}" for i in range(1, len(recorded.added) + 1)]
    return Layer(
        tower=place.tower,
        mixer=place.mixer,
        kind=kind,
        weights=depends if matrix_kind is None else _row(recorded.arrays[matrix_kind]),
        cross=None if cross is None else _row(reading.in_order(cross)),
        stream=_lengths(output),
        added={name: _lengths(term) for name, term in zip(names, recorded.added, strict=True)},
        experts=_row(recorded.arrays.get("gates")),
        routed=_row(recorded.arrays.get("routed")),
        lens=lens(reading, output, logits) if last else None,
    )


def _row(array: mx.array | None) -> np.ndarray | None:
    """The only row of a batch, in float32 or boolean."""
    if array is None:
        return None
    return np.array(array[0] if array.dtype == mx.bool_ else array[0].astype(mx.float32))


def _lengths(x: mx.array) -> np.ndarray:
    """Lengths of the vectors of x `[1, T, D]`."""
    return np.array(mx.linalg.norm(x[0].astype(mx.float32), axis=-1))


def _alignment(reading: Reading) -> np.ndarray | None:
    """Attention of a recurrent decoder over its source, `[T, S]`, if it has any."""
    model = reading.model
    if not isinstance(model, Aligning) or not reading.source:
        return None
    try:
        weights = model.alignment(reading.arrays["source"], reading.arrays["tokens"])
    except MlxtError:  # a translator without attention
        return None
    return _row(reading.in_order(weights))
