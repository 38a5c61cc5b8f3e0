"""Options of `mlxt eval`, under the headings of its help, and which of them go together."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import RunError
from ..core.task import MEASURED
from .completion import run_names, set_keys
from .few_shot import form_option, seed_option
from .modes import given_flags
from .options import user_path

TASK = "A task on the run's own data"
HARNESS = "Benchmarks of the lm-evaluation-harness"
QUESTIONS = "Questions of a file"
WORD_VECTORS = "Word vectors"

Batches = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches to measure on, spread evenly, for the loss or --task.",
        metavar="N",
        show_default="the whole split",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="For the loss or --task: where the data is now, as in --set data.path=FILE, or "
        "eval.batch_size. For --tools: a key of the recipe's [tools]. Repeatable.",
        metavar="KEY=VALUE",
        show_default=False,
        autocompletion=set_keys,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TASK,
        help=f"Compute the metrics of this task: {', '.join(MEASURED)}.",
        metavar="TASK",
        show_default=False,
    ),
]
BeamCount = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=TASK,
        min=1,
        help="Beams of beam search, in tasks whose model generates text.",
        metavar="N",
        show_default="1, greedy decoding",
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TASK,
        help="Also give the metrics by the length of the source in words, in tasks whose model "
        "generates text: 5,10,20 makes four groups, the last of 20 words and more.",
        metavar="N,N",
        show_default=False,
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TASK,
        help="The run of a CLIP model that retrieves the text of each drawing, in task 'drawings'.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
HarnessTasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        rich_help_panel=HARNESS,
        help="Tasks of lm-eval (pip install lm-eval), as in --tasks lambada_openai,hellaswag.",
        metavar="A,B",
        show_default=False,
    ),
]
Shots = Annotated[
    str | None,
    typer.Option(
        help="Numbers of few-shot examples in the prompt, as in 0,1,2,4,8, with --tasks or "
        "--questions.",
        metavar="N,N",
        show_default="each task's own; 0 for --questions",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Examples of each of --tasks, or questions, to measure on.",
        metavar="N",
        show_default="all of them",
    ),
]
TaskFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--task-folder",
        rich_help_panel=HARNESS,
        parser=user_path,
        help="A folder with task files (YAML); repeatable.",
        metavar="FOLDER",
        show_default=False,
    ),
]
Questions = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=QUESTIONS,
        parser=user_path,
        help="Ask the questions of a .jsonl file with keys question, answer, and perhaps choices "
        "and reasoning.",
        metavar="FILE",
        show_default=False,
    ),
]
Pool = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=QUESTIONS,
        parser=user_path,
        help="A file of questions that the examples in the prompt are taken from.",
        metavar="FILE",
        show_default="the other questions",
    ),
]
Pick = Annotated[
    str,
    typer.Option(
        rich_help_panel=QUESTIONS,
        help="How the examples in the prompt are chosen.",
        metavar="random|nearest",
    ),
]
EmbedderRun = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=QUESTIONS,
        help="The run whose embeddings --pick nearest compares.",
        metavar="RUN",
        show_default="the measured one",
        autocompletion=run_names,
    ),
]
Chains = Annotated[
    bool,
    typer.Option(
        "--chains",
        rich_help_panel=QUESTIONS,
        help="Answer with chains of thought; examples show their reasoning, or the model's own "
        "where it reaches the right answer.",
    ),
]
Votes = Annotated[
    int,
    typer.Option(
        rich_help_panel=QUESTIONS,
        help="Answers to sample, of which the most frequent counts (self-consistency).",
        metavar="N",
    ),
]
Shuffles = Annotated[
    int,
    typer.Option(
        rich_help_panel=QUESTIONS,
        help="Orders to ask lettered choices in, of which the most frequent answer counts; 0 "
        "compares the probabilities of the choices' texts.",
        metavar="N",
    ),
]
Form = Annotated[str, form_option(QUESTIONS)]
Seed = Annotated[int, seed_option(QUESTIONS)]
WithTools = Annotated[
    bool,
    typer.Option(
        "--tools",
        rich_help_panel=QUESTIONS,
        help="Ask each question in a conversation, without tools and with those of the recipe's "
        "[tools]; --set tools.calculator=true adds one.",
    ),
]
Analogies = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=WORD_VECTORS,
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
        rich_help_panel=WORD_VECTORS,
        parser=user_path,
        help="Measure word vectors with pairs of words that people scored: SimLex-999, "
        "WordSim-353, or two words and a number, with tabs or commas between.",
        metavar="FILE",
        show_default=False,
    ),
]

MODES: dict[str, tuple[str, ...]] = {
    "analogies": (),
    "similarities": (),
    "tools": ("questions", "limit", "set"),
    "questions": (
        "shots",
        "limit",
        "pool",
        "pick",
        "embedder",
        "chains",
        "votes",
        "shuffles",
        "seed",
        "form",
    ),
    "tasks": ("shots", "limit", "task_folder"),
    "task": ("batches", "beams", "lengths", "judge", "set"),
}
"""The parameters that choose what is measured, and those that each reads besides."""

LOSS = ("batches", "set")
"""Parameters of the loss on the validation split, which is measured unless a mode is given."""


def choose_mode(ctx: typer.Context) -> str | None:
    """Return the key of `MODES` whose option was given, or None to measure the loss.

    Raises:
        RunError: an option was given that the mode doesn't read.
    """
    given = given_flags(ctx)
    flags = {param.name or "": param.opts[0] for param in ctx.command.params}
    mode = next((name for name in MODES if name in given), None)
    allowed = {"run", "as_json", *(LOSS if mode is None else (mode, *MODES[mode]))}
    for name in given:
        if name in allowed:
            continue
        if mode is None:
            readers = [flags[m] for m, names in MODES.items() if name in names and m != "tools"]
            raise RunError(f"{flags[name]} is for {' or '.join(readers)}: give that option too.")
        read = ", ".join(flags[n] for n in (*MODES[mode], "as_json"))
        raise RunError(f"{flags[name]} doesn't go with {flags[mode]}, which reads only {read}.")
    if mode == "tools" and "questions" not in given:
        raise RunError("--tools is for --questions: give both.")
    return mode
