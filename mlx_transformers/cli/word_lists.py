"""Options of `mlxt eval` for word vectors, and how their scores are printed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import RunError
from .options import user_path
from .terminal import print_table

Analogies = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Measure word vectors with the analogies of a file in the format of "
        "questions-words.txt: four words a line, sections after a colon.",
        metavar="FILE",
        show_default=False,
    ),
]
Similarities = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Measure word vectors with pairs of words that people scored: SimLex-999, "
        "WordSim-353, or two words and a number, with tabs or commas between.",
        metavar="FILE",
        show_default=False,
    ),
]


def word_list(
    run: str | None,
    analogies: Path | None,
    similarities: Path | None,
    alone: bool,
    as_json: bool,
) -> None:
    """Print the scores of a run's word vectors on a list, over all and by section.

    `alone` is whether no other option was given.
    """
    from ..verbs.word_vectors import listed

    if not alone or (analogies and similarities):
        raise RunError("--analogies and --similarities go with --json alone: give one of them.")
    kind, file = ("analogies", analogies) if analogies else ("similarities", similarities)
    assert file is not None, "the caller has one of them"
    checkpoint, found = listed(run, kind, file)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **asdict(found)}, ensure_ascii=False))
        return
    print(checkpoint)
    rows = [
        (score.name, f"{score.value:.4f}", f"{score.low:.4f} to {score.high:.4f}", f"{count:,}")
        for score, count in zip(found.scores, found.counts, strict=True)
    ]
    print_table(("", "value", "95 % CI", "known"), rows, right=(1, 3))
    print(
        f"{kind} of the list: {found.asked:,}, of which {found.counts[0]:,} have known words alone"
    )
