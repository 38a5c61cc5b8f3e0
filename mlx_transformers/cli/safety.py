"""`mlxt safety`: refusals, stereotypes, hurtful completions and associations of a run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
from .modes import refuse_unread
from .options import AsJson, Run, user_path

Measure = Annotated[
    str,
    typer.Option(
        help="What to measure.",
        metavar="refusals|crows_pairs|honest|toxicity|weat",
        show_default=False,
    ),
]
File = Annotated[
    Path,
    typer.Option(
        parser=user_path,
        help="Rows in the measure's published format: .csv, .tsv, .jsonl, or .json for weat.",
        metavar="FILE",
        show_default=False,
    ),
]
Lexicon = Annotated[
    Path | None,
    typer.Option(
        parser=user_path, help="Hurtful words, one a line, for honest.", show_default=False
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        help="The run that classifies texts as toxic, for toxicity.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
Label = Annotated[
    int,
    typer.Option(help="Its class of toxic texts, in the order of its labels.", metavar="N", min=0),
]
Samples = Annotated[int, typer.Option(help="Completions of each prompt.", metavar="N", min=1)]
MaxTokens = Annotated[int, typer.Option(help="Tokens of an answer.", metavar="N", min=1)]
Seed = Annotated[int, typer.Option(help="The seed of the draws.", metavar="N", min=0)]


def safety(
    ctx: typer.Context,
    measure: Measure,
    file: File,
    run: Run = None,
    lexicon: Lexicon = None,
    classifier: Classifier = None,
    label: Label = 1,
    samples: Samples = 5,
    max_tokens: MaxTokens = 40,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure refusals, stereotypes, hurtful or toxic completions, or associations of a run.

    Each measure has a 95 % interval.
    """
    from ..verbs.safety import Safety, find_measure, measure_safety

    refuse_unread(
        ctx,
        ("measure", "file", "run", "as_json", *find_measure(measure).reads),
        f"--measure {measure}",
    )
    how = Safety(lexicon, classifier, label, samples, max_tokens, seed)
    scores, rows = measure_safety(run, measure, file, how)
    if as_json:
        print(json.dumps({"rows": rows, "scores": [asdict(score) for score in scores]}))
        return
    for score in scores:
        between = f"{score.low:.4f} to {score.high:.4f}"
        print(f"  {score.name:<22} {score.value:.4f}   95 % CI {between}")
    print(f"  {'measured on':<22} {rows:,} rows")
