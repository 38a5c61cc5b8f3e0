"""`mlxt generate`: continue a prompt with a trained run, shown as it is written."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import RunError
from .failures import INTERRUPTED

Prompt = Annotated[
    str,
    typer.Option(
        help="The text to continue; '-' reads it from standard input, less one final line break."
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        help="A run's name or folder, or one of its checkpoints (runs/NAME/checkpoints/STEP).",
        show_default="the newest run in ./runs",
    ),
]
MaxTokens = Annotated[int, typer.Option(help="The most tokens to generate.")]
Temp = Annotated[
    float,
    typer.Option(
        help="Temperature: 0 always takes the most probable token, 1 draws from the model's own "
        "distribution, more is wilder."
    ),
]
TopP = Annotated[
    float, typer.Option(help="Draw from the fewest tokens that hold this share of probability.")
]
TopK = Annotated[
    int, typer.Option(help="Draw from this many of the most probable tokens; 0 from all.")
]
MinP = Annotated[
    float, typer.Option(help="Draw from tokens at least this probable relative to the likeliest.")
]
Penalty = Annotated[
    float, typer.Option(help="Above 1 makes tokens that occurred less likely; 1.1 is usual.")
]
Window = Annotated[
    int | None,
    typer.Option(
        help="How many of the last tokens the penalty counts.", show_default="all of them"
    ),
]
BeamCount = Annotated[
    int | None,
    typer.Option(
        help="Search for the most probable text with this many beams instead of drawing; "
        "encoder-decoders always search, with 1 unless told otherwise.",
        show_default=False,
    ),
]
LengthPenalty = Annotated[
    float, typer.Option(help="The exponent of a search's length penalty; 0 favours short texts.")
]
AlignmentFile = Annotated[
    Path | None,
    typer.Option(
        help="Also draw where an encoder-decoder looked as it wrote, to a new .svg or .png file.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        help="End before this text; may be given several times. A line break is $'\\n' in most "
        "shells.",
        show_default=False,
    ),
]


def generate(
    prompt: Prompt,
    run: Run = None,
    max_tokens: MaxTokens = 256,
    temp: Temp = 0.8,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    repetition_window: Window = None,
    seed: Seed = 0,
    stop: Stop = None,
    beams: BeamCount = None,
    length_penalty: LengthPenalty = 0.6,
    alignment: AlignmentFile = None,
) -> None:
    """Continue a prompt with a trained run, or write the target of a source.

    The text goes to standard output as it is written, without the prompt; its numbers go to
    standard error. Ctrl-C ends it early.
    """
    from ..assembly.saved import load
    from ..decode.beam import Beams
    from ..decode.generate import stream
    from ..decode.sample import Sampling
    from ..verbs.search import reads_source, search

    sampling = Sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    text = _standard_input() if prompt == "-" else prompt
    if alignment is not None:
        _can_be_drawn(alignment)
    model, tokenizer = load(run)
    searches = beams is not None or not hasattr(model, "step") or reads_source(model)
    if searches or alignment is not None:
        _no_drawing(sampling, seed, stop)
        write = search if alignment is None else partial(_drawn, alignment)
        how = Beams(beams or 1, alpha=length_penalty)
        loaded = (model, tokenizer)
        typer.echo(write(run, text, max_tokens=max_tokens, beams=how, loaded=loaded))
        return
    pieces = stream(
        model,
        tokenizer,
        text,
        max_tokens=max_tokens,
        sampling=sampling,
        seed=seed,
        stop=stop or (),
    )
    whole = _show(pieces)
    typer.echo(pieces.stats.line(), err=True)
    if not whole:
        raise typer.Exit(INTERRUPTED)


def _can_be_drawn(file: Path) -> None:
    """Refuse a picture of another kind, in no folder, or in place of another."""
    if file.suffix not in (".svg", ".png"):
        raise RunError(f"--alignment {file}: end the name with .svg or .png.")
    if file.exists():
        raise RunError(f"{file} is there already. Give --alignment another name, or remove it.")
    if not file.parent.is_dir():
        raise RunError(f"--alignment {file}: there is no folder {file.parent}. Make it first.")


def _drawn(file: Path, run: str | None, text: str, **how: Any) -> str:
    """What is written, once its alignment is drawn to a file."""
    from ..report.plot import alignment
    from ..verbs.search import align

    said, looked = align(run, text, **how)
    alignment(looked.weights, looked.source, looked.target, file)
    return said


def _no_drawing(sampling: Any, seed: int, stop: list[str] | None) -> None:
    """Refuse options of drawing where nothing is drawn: a search would ignore them."""
    from ..decode.sample import Sampling

    if sampling != Sampling(0.8) or seed or stop:
        raise RunError(
            "A search takes the most probable text: --temp, --top-p, --top-k, --min-p, "
            "--repetition-penalty, --repetition-window, --seed and --stop have no effect on it. "
            "Leave them out."
        )


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(
            f"Standard input is not UTF-8 text: byte {error.object[error.start]:#04x} at "
            f"{error.start}. Convert it first, for instance with iconv."
        ) from None
    return text.removesuffix("\n")


def _show(pieces: Any) -> bool:
    """Print the pieces as they come; whether nobody interrupted."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return False
    except BrokenPipeError:
        # The reader has enough, as in `mlxt generate ... | head`: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        print(flush=True)
    return True
