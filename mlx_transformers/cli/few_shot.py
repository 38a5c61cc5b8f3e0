"""Options of `mlxt eval --questions`, and its table: accuracy by examples in the prompt."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import RunError
from .options import user_path
from .terminal import print_table

FORM = "Question: {question}\\nAnswer: {answer}"

Questions = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Ask the questions of a .jsonl file: question, answer, perhaps choices and reasoning.",
        metavar="FILE",
        show_default=False,
    ),
]
Pool = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="A file of questions that the examples in the prompt are taken from.",
        metavar="FILE",
        show_default="the other questions",
    ),
]
Pick = Annotated[str, typer.Option(help="Which examples are shown.", metavar="random|nearest")]
EmbedderRun = Annotated[
    str | None,
    typer.Option(
        help="The run that embeds questions for --pick nearest.",
        metavar="RUN",
        show_default="the measured one",
    ),
]
Chains = Annotated[
    bool,
    typer.Option(
        "--chains",
        help="Answer with chains of thought; examples show their reasoning, or the model's own "
        "where it reaches the right answer.",
    ),
]
Votes = Annotated[
    int, typer.Option(help="Answers to draw, of which the most frequent counts.", metavar="N")
]
Shuffles = Annotated[
    int,
    typer.Option(
        help="Orders to ask lettered choices in, of which the most frequent answer counts; 0 "
        "compares the probabilities of the choices' texts.",
        metavar="N",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        help="The text of an example with {question} and {answer}; \\n is a line break.",
        metavar="TEXT",
    ),
]
Seed = Annotated[int, typer.Option(help="The seed of examples, orders and draws.", metavar="N")]
WithTools = Annotated[
    bool,
    typer.Option(
        "--tools",
        help="Ask --questions in conversations, without the tools of [tools] and with them; --set "
        "tools.calculator=true adds one.",
    ),
]


def unescaped(form: str) -> str:
    """Return --form with line breaks in the place of their escapes."""
    return form.replace("\\n", "\n")


DEFAULTS = ("random", False, 1, 0, 0, FORM)
"""The values of --pick, --chains, --votes, --shuffles, --seed and --form where none is given."""


def shot_list(text: str, option: str = "--shots") -> list[int]:
    """Return the numbers of an option, --shots by default.

    Raises:
        RunError: they are no list of whole numbers.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise RunError(f"{option} {text}: give whole numbers with commas between, e.g. 0,1,2,4,8.")
    return [int(word) for word in words]


def few_shot(
    run: str | None,
    file: Path,
    shots: list[int],
    settings: tuple[Any, ...],
    pool: Path | None,
    embedder: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print the accuracy with each number of examples."""
    from ..verbs.few_shot import FewShot, learning_curve

    pick, chains, votes, shuffles, seed, form = settings
    how = FewShot(pick, chains, votes, shuffles, seed, unescaped(form))
    if embedder is not None and how.pick != "nearest":
        raise RunError("--embedder is for --pick nearest: give both.")
    points = learning_curve(run, file, shots, how, pool=pool, embedder=embedder, limit=limit)
    if as_json:
        print(json.dumps([asdict(point) for point in points]))
        return
    rows = [
        (str(p.shots), f"{p.accuracy.value:.4f}", f"{p.accuracy.low:.4f} to {p.accuracy.high:.4f}")
        for p in points
    ]
    print_table(("examples", "accuracy", "95 % CI"), rows, right=(0, 1))


def tool_use(run: str | None, file: Path, limit: int | None, set: list[str], as_json: bool) -> None:
    """Print the accuracy without tools and with them."""
    from ..verbs.tool_use import with_and_without_tools

    found = with_and_without_tools(run, file, limit=limit, set=set)
    if as_json:
        print(json.dumps([asdict(one) for one in found]))
        return
    rows = [
        (
            "with" if one.tools else "without",
            f"{one.accuracy.value:.4f}",
            f"{one.accuracy.low:.4f} to {one.accuracy.high:.4f}",
            f"{one.called:.4f}",
        )
        for one in found
    ]
    print_table(("tools", "accuracy", "95 % CI", "called"), rows, right=(1, 3))
