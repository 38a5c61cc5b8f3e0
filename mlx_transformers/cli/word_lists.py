"""`mlxt eval --analogies` and `--similarities`: a table of scores of word vectors."""

import json
from dataclasses import asdict
from pathlib import Path

from .terminal import print_table


def word_list(run: str | None, kind: str, file: Path, as_json: bool) -> None:
    """Print the scores of a run's word vectors on a list, over all and by section.

    `kind` is analogies or similarities.
    """
    from ..verbs.word_vectors import listed

    checkpoint, result = listed(run, kind, file)
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), **asdict(result)}, ensure_ascii=False))
        return
    print(checkpoint)
    rows = [
        (score.name, f"{score.value:.4f}", f"{score.low:.4f} to {score.high:.4f}", f"{count:,}")
        for score, count in zip(result.scores, result.counts, strict=True)
    ]
    print_table(("", "value", "95 % CI", "known"), rows, right=(1, 3))
    print(
        f"{kind} of the list: {result.asked:,}, of which {result.counts[0]:,} have known words "
        "alone"
    )
