"""`mlxt generate`: continue prompts with a trained run, shown as they are written."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import RunError
from ..core.terminal import is_terminal
from .completion import run_names
from .failures import INTERRUPTED
from .options import user_path

PromptTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="The text to continue; '-' reads it from standard input, less one final line break. "
        "Repeatable: several prompts are continued together.",
        show_default=False,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        parser=user_path,
        help="A text file with one prompt per line; empty lines are skipped.",
        metavar="FILE",
        show_default=False,
    ),
]
Samples = Annotated[
    int, typer.Option(help="Texts to draw for each prompt.", metavar="N", min=1, max=100_000)
]
Rows = Annotated[
    int,
    typer.Option(
        "--batch-size", help="Texts that are generated at once.", metavar="N", min=1, max=100_000
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a line of JSON for each text: prompt, sample, text, tokens, end_reason.",
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        help="A run's name or folder, or one of its checkpoints (runs/NAME/checkpoints/STEP).",
        show_default="the newest run in ./runs",
        autocompletion=run_names,
    ),
]
MaxTokens = Annotated[int, typer.Option(help="The most tokens to generate.")]
Temp = Annotated[
    float,
    typer.Option(
        help="Temperature: 0 always takes the most probable token, 1 draws from the model's own "
        "distribution, higher values flatten it."
    ),
]
TopP = Annotated[
    float, typer.Option(help="Draw from the fewest tokens that hold this share of probability.")
]
TopK = Annotated[
    int, typer.Option(help="Draw from this many of the most probable tokens; 0 from all.")
]
MinP = Annotated[
    float,
    typer.Option(help="Draw from tokens at least this probable relative to the most probable."),
]
Penalty = Annotated[
    float,
    typer.Option(help="Repetition penalty: above 1 makes tokens that occurred less likely."),
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
        "encoder-decoders always search, by default with 1.",
        show_default=False,
    ),
]
LengthPenalty = Annotated[
    float,
    typer.Option(help="The exponent of beam search's length penalty; 0 favours short texts."),
]
AlignmentFile = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="Also plot the attention of an encoder-decoder over its source, to a new .svg or "
        ".png file.",
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="The same seed gives the same text; text number n is drawn with seed + n."),
]
Bos = Annotated[
    bool,
    typer.Option(
        "--bos/--no-bos",
        help="Put before a prompt what the tokenizer's own template puts there (BOS, mostly).",
    ),
]
SpecialTokens = Annotated[
    bool,
    typer.Option(
        "--special-tokens/--no-special-tokens",
        help="Read special tokens that are spelled out in a prompt, as in '<|im_start|>user', as "
        "tokens instead of text.",
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        help="End before this text or special token; repeatable. A line break is $'\\n' in most "
        "shells.",
        show_default=False,
    ),
]
ExitThreshold = Annotated[
    float | None,
    typer.Option(
        help="Leave the model at the first layer whose prediction is this confident, for one "
        "prompt. For runs that were trained with early exits (objective early_exit).",
        metavar="X",
        show_default="never",
    ),
]
ExitMeasure = Annotated[
    str,
    typer.Option(
        help="Confidence of --exit-threshold: max_prob, margin (of the two most probable tokens), "
        "or entropy, a share of its maximum that must be below the threshold.",
        metavar="max_prob|margin|entropy",
    ),
]


def generate(
    prompt: PromptTexts = None,
    prompts: PromptFile = None,
    samples: Samples = 1,
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
    bos: Bos = True,
    special_tokens: SpecialTokens = False,
    beams: BeamCount = None,
    length_penalty: LengthPenalty = 0.6,
    exit_threshold: ExitThreshold = None,
    exit_measure: ExitMeasure = "max_prob",
    alignment: AlignmentFile = None,
    batch_size: Rows = 32,
    as_json: AsJson = False,
) -> None:
    """Continue one or more prompts with a trained run, or write the target of a source.

    The text of a single prompt goes to standard output as it is written, without the prompt, and
    its figures to standard error; several texts are generated together and printed at the end.
    Ctrl-C ends a text early.
    """
    from ..assembly.saved import load
    from ..decode.beam import Beams
    from ..decode.sample import Sampling
    from ..verbs.search import reads_source

    how = Beams(1 if beams is None else beams, alpha=length_penalty)
    sampling = Sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    exits = _exits(exit_threshold, exit_measure)
    texts = _prompts(prompt or [], prompts)
    if alignment is not None:
        _check_picture(alignment, len(texts))
    with _waiting("Loading the run ..."):
        model, tokenizer = load(run)
    if beams is not None or alignment is not None or "causal_lm" not in model.tasks:
        _check_search(sampling, seed, stop, samples)
        if exits is not None:
            raise RunError("A search runs through all layers: leave out --exit-threshold.")
        loaded = (model, tokenizer)
        read = {} if reads_source(model) else {"bos": bos, "special_tokens": special_tokens}
        options = {"max_tokens": max_tokens, "beams": how, "loaded": loaded, **read}
        _search(run, texts, alignment, as_json, **options)
        return
    options = {
        "max_tokens": max_tokens,
        "sampling": sampling,
        "seed": seed,
        "stop": stop or (),
        "bos": bos,
        "special_tokens": special_tokens,
    }
    alone = len(texts) * samples == 1 and not as_json
    if exits is not None and not alone:
        raise RunError("--exit-threshold continues one prompt, once, without --json.")
    if alone:
        _stream(model, tokenizer, texts[0], options | {"exits": exits})
    else:
        options |= {"samples": samples, "rows": batch_size}
        _batch(model, tokenizer, texts, as_json, options)


def _exits(threshold: float | None, measure: str) -> Any:
    """When decoding leaves the stack; None: never.

    Raises:
        RunError: a measure without a threshold, or one of them is out of range.
    """
    from ..decode.exits import Exits

    if threshold is not None:
        return Exits(threshold, measure)  # type: ignore[arg-type]
    if measure != "max_prob":
        raise RunError("--exit-measure has no effect without --exit-threshold: give both.")
    return None


def _stream(model: Any, tokenizer: Any, text: str, options: dict[str, Any]) -> None:
    """Print one text as it is written, then its figures."""
    from ..decode.generate import stream

    pieces = stream(model, tokenizer, text, **options)
    finished = _show(pieces)
    typer.echo(pieces.stats.line(), err=True)
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _batch(
    model: Any, tokenizer: Any, texts: list[str], as_json: bool, options: dict[str, Any]
) -> None:
    """Print all texts of all prompts, each under a line with its number."""
    from ..decode.generate import generate_batch

    with _waiting("Compiling and reading the prompts ...") as show:
        found = generate_batch(
            model,
            tokenizer,
            texts,
            progress=lambda done, total: show(f"{done:,} of {total:,} texts ..."),
            **options,
        )
    for p, (text, group) in enumerate(zip(texts, found, strict=True), 1):
        for s, one in enumerate(group, 1):
            if as_json:
                _print_json(
                    prompt=text,
                    sample=s,
                    text=one.text,
                    tokens=one.tokens,
                    end_reason=one.end_reason,
                )
                continue
            sample = f", sample {s}" if len(group) > 1 else ""
            print(f"--- prompt {p}{sample} ---\n{one.text}")


def _print_json(**fields: Any) -> None:
    print(json.dumps(fields, ensure_ascii=False))


def _search(
    run: str | None,
    texts: list[str],
    alignment: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Print the most probable text for each prompt or source."""
    from ..verbs.search import search

    find = search if alignment is None else partial(_plotted, alignment)
    for p, text in enumerate(texts, 1):
        with _waiting("Compiling and searching ..."):
            found = find(run, text, **how)
        if as_json:
            _print_json(prompt=text, text=found)
        else:
            print(f"--- prompt {p} ---\n{found}" if len(texts) > 1 else found)


def _prompts(given: list[str], file: Path | None) -> list[str]:
    """All prompts, those of the command line first.

    Raises:
        RunError: there is none, or the file can't be read.
    """
    if given.count("-") > 1:
        raise RunError("--prompt - reads all of standard input, so it can be given once.")
    texts = [_standard_input() if text == "-" else text for text in given]
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise RunError(
                f"--prompts {file} is not UTF-8 text (byte {error.start}). Convert it first, for "
                "instance with iconv."
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"--prompts {file} can't be read: {reason}.") from None
        found = [line.removesuffix("\r") for line in lines]
        texts += [line for line in found if line]
        if not any(found):
            raise RunError(f"--prompts {file} has no prompt: every line of it is empty.")
    if not texts:
        raise RunError("Give a prompt: --prompt TEXT, or --prompts FILE with one per line.")
    return texts


def _check_picture(file: Path, n_texts: int) -> None:
    """Refuse a picture of several texts, of another format, in no folder, or over a file."""
    if n_texts > 1:
        raise RunError("--alignment plots one text: give one --prompt.")
    if file.suffix not in (".svg", ".png"):
        raise RunError(f"--alignment {file}: end the name with .svg or .png.")
    if file.exists():
        raise RunError(f"{file} exists already. Give --alignment another name, or remove it.")
    if not file.parent.is_dir():
        raise RunError(f"--alignment {file}: there is no folder {file.parent}. Make it first.")


def _plotted(file: Path, run: str | None, text: str, **how: Any) -> str:
    """Search, plot the alignment to `file`, and return the text."""
    from ..report.plot import alignment
    from ..verbs.search import align

    found, attended = align(run, text, **how)
    alignment(attended.weights, attended.source, attended.target, file)
    return found


def _check_search(sampling: Any, seed: int, stop: list[str] | None, samples: int) -> None:
    """Refuse options of sampling where a search would ignore them."""
    from ..decode.sample import Sampling

    if sampling != Sampling(0.8) or seed or stop or samples != 1:
        raise RunError(
            "A search takes the most probable text: --temp, --top-p, --top-k, --min-p, "
            "--repetition-penalty, --repetition-window, --seed, --stop and --samples have no "
            "effect on it. Leave them out."
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


@contextmanager
def _waiting(text: str) -> Iterator[Any]:
    """Shows a line on a terminal's standard error while a block runs, then removes it.

    Yields a function that replaces the line's text.
    """
    if not is_terminal(sys.stderr):
        yield lambda text: None
        return

    def show(text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    show(text)
    try:
        yield show
    finally:
        show("")


def _show(pieces: Any) -> bool:
    """Print the pieces as they come; returns False if the user interrupted."""
    try:
        with _waiting("Compiling and reading the prompt ..."):
            first = next(pieces, "")
        sys.stdout.write(first)
        sys.stdout.flush()
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
