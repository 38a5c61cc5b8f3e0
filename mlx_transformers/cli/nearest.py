"""`mlxt nearest`: the words whose vectors lie nearest to a word."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import RunError
from .options import AsJson, Run, Runs


def nearest(
    run: Run = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            help="A word, or a sum of words: 'king - man + woman'. Repeatable.",
            metavar="WORD",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Words to print for each.", metavar="N")] = 10,
    as_json: AsJson = False,
    runs: Runs = Path("runs"),
) -> None:
    """Print the words nearest to a word, by the cosine of their vectors.

    For runs of word2vec, such as those of embeddings/word2vec_tiny.
    """
    from ..runs.folder import find_checkpoint
    from ..verbs.word_vectors import nearest_words

    find_checkpoint(run, runs)
    if not word:
        raise RunError("Give a word: --word WORD.")
    results = nearest_words(run, word, top, runs)
    if as_json:
        rows = [
            {"word": text, "nearest": [{"word": w, "cosine": c} for w, c in neighbours]}
            for text, neighbours in zip(word, results, strict=True)
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    for text, neighbours in zip(word, results, strict=True):
        print(f"{text}: " + ", ".join(f"{w} {c:.2f}" for w, c in neighbours))
