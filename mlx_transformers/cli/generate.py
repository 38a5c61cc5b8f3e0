"""`mlxt generate`: continue prompts with a trained run, shown as they are written."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import typer

from ..core.errors import RunError, reason
from ..core.terminal import is_terminal
from .drafting import drafted
from .failures import INTERRUPTED
from .generate_image import default_prompt, with_image
from .generate_options import (
    AlignmentFile,
    AsJson,
    BeamCount,
    Bos,
    DraftLayers,
    DraftRun,
    DraftTokens,
    ExitMeasure,
    ExitThreshold,
    ImageFile,
    KvBits,
    KvGroup,
    LengthPenalty,
    MaxTokens,
    MinP,
    Penalty,
    PromptFile,
    PromptTexts,
    Rows,
    Run,
    Samples,
    Seed,
    SpecialTokens,
    Stop,
    Temp,
    TopK,
    TopP,
    Window,
    WithTools,
)
from .generate_tools import checked, generate_with_tools
from .options import Sets


def generate(
    prompt: PromptTexts = None,
    prompts: PromptFile = None,
    image: ImageFile = None,
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
    draft: DraftRun = None,
    draft_tokens: DraftTokens = None,
    draft_layers: DraftLayers = None,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = None,
    alignment: AlignmentFile = None,
    batch_size: Rows = 32,
    tools: WithTools = False,
    set: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Continue one or more prompts with a trained run, or write the target of a source.

    The text of a single prompt is printed as it is written, and its figures to standard error;
    several are printed at the end. Ctrl-C ends a text early. With --tools the model answers.
    """
    from ..decode.sample import Sampling

    how = _beams(1 if beams is None else beams, length_penalty)
    sampling = Sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    exits, packing = _exits(exit_threshold, exit_measure), _packing(kv_bits, kv_group_size)
    texts = _prompts(prompt or default_prompt(image, prompts), prompts)
    if tools or set:
        odd = special_tokens or not bos or any((beams, draft, alignment, exits, packing, image))
        answered = (max_tokens, sampling, seed, tuple(stop or ()))
        generate_with_tools(run, texts, answered, samples, checked(tools, set, odd), as_json)
        return
    _check_picture(alignment, len(texts))
    loaded = _loaded(run)
    drafting = (draft, draft_tokens, draft_layers)
    shown, seen = with_image(loaded, texts, image, (samples > 1, as_json, beams, *drafting, exits))
    reading = {"bos": bos, "special_tokens": special_tokens}
    if beams is not None or alignment is not None or "causal_lm" not in loaded[0].tasks:
        _check_search(sampling, seed, stop, samples, exits, draft, packing)
        _search(run, texts, alignment, as_json, reading, how, loaded, max_tokens)
        return
    drawing = {"max_tokens": max_tokens, "sampling": sampling, "seed": seed, "stop": stop or ()}
    drawing |= {"packing": packing} | seen
    _continue(loaded, shown, reading | drawing, exits, drafting, samples, batch_size, as_json)


def _loaded(run: str | None) -> tuple[Any, Any]:
    """The model and the tokenizer of a run."""
    from ..assembly.saved import load

    with _waiting("Loading the run ..."):
        return load(run)


def _continue(
    loaded: tuple[Any, Any],
    texts: list[Any],
    options: dict[str, Any],
    exits: Any,
    drafting: tuple[str | None, int | None, int | None],
    samples: int,
    rows: int,
    as_json: bool,
) -> None:
    """Print the continuations of texts; one alone is printed as it is written."""
    if _is_alone(len(texts) * samples, as_json, exits, any(drafting)):
        own = {"exits": exits} | drafted(*drafting, exits, loaded[1])
        _stream(*loaded, texts[0], options | own)
    else:
        _batch(*loaded, texts, as_json, options, samples, rows)


def _is_alone(n_texts: int, as_json: bool, exits: Any, drafts: bool) -> bool:
    """Whether one text is written as it is made.

    Raises:
        RunError: several are, with early exits, which decode one row.
    """
    alone = n_texts == 1 and not as_json
    if exits is not None and not alone:
        raise RunError("--exit-threshold continues one prompt, once, without --json.")
    if drafts and not alone:
        raise RunError("--draft continues one prompt, once, without --json.")
    return alone


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


def _packing(bits: int | None, group_size: int | None) -> Any:
    """How the KV cache is packed; None: it isn't.

    Raises:
        RunError: a group size without bits, or one of them doesn't exist.
    """
    from ..decode.packed_cache import CachePacking

    if bits is not None:
        return CachePacking(bits) if group_size is None else CachePacking(bits, group_size)
    if group_size is not None:
        raise RunError("--kv-group-size has no effect without --kv-bits: give both.")
    return None


def _stream(model: Any, tokenizer: Any, text: str | list[int], options: dict[str, Any]) -> None:
    """Print one text as it is written, then its figures."""
    from ..decode.generate import stream

    pieces = stream(model, tokenizer, text, **options)
    finished = _show(pieces)
    typer.echo(pieces.stats.line(), err=True)
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _batch(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    as_json: bool,
    options: dict[str, Any],
    samples: int,
    rows: int,
) -> None:
    """Print all texts of all prompts, each under a line with its number."""
    from ..decode.generate import generate_batch

    with _waiting("Compiling and reading the prompts ...") as show:
        found = generate_batch(
            model,
            tokenizer,
            texts,
            progress=lambda done, total: show(f"{done:,} of {total:,} texts ..."),
            samples=samples,
            rows=rows,
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


def _beams(n: int, length_penalty: float) -> Any:
    """The beams of a search.

    Raises:
        RunError: there is none, or the penalty is out of range.
    """
    from ..decode.beam import Beams

    return Beams(n, alpha=length_penalty)


def _search(
    run: str | None,
    texts: list[str],
    alignment: Path | None,
    as_json: bool,
    reading: dict[str, Any],
    beams: Any,
    loaded: tuple[Any, Any],
    max_tokens: int,
) -> None:
    """Print the most probable text for each prompt or source; `reading` is how prompts are read."""
    from ..verbs.search import reads_source, search

    how = {} if reads_source(loaded[0]) else reading
    how = how | {"beams": beams, "loaded": loaded, "max_tokens": max_tokens}
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
            raise RunError(f"--prompts {file} can't be read: {reason(error)}.") from None
        found = [line.removesuffix("\r") for line in lines]
        texts += [line for line in found if line]
        if not any(found):
            raise RunError(f"--prompts {file} has no prompt: every line of it is empty.")
    if not texts:
        raise RunError("Give a prompt: --prompt TEXT, or --prompts FILE with one per line.")
    return texts


def _check_picture(file: Path | None, n_texts: int) -> None:
    """Refuse a picture of several texts, of another format, in no folder, or over a file."""
    if file is None:
        return
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


def _check_search(
    sampling: Any,
    seed: int,
    stop: list[str] | None,
    samples: int,
    exits: Any,
    draft: str | None,
    packing: Any,
) -> None:
    """Refuse options of sampling and of decode states where a search would ignore them."""
    from ..decode.sample import Sampling

    if sampling != Sampling(0.8) or seed or stop or samples != 1:
        raise RunError(
            "A search takes the most probable text: --temp, --top-p, --top-k, --min-p, "
            "--repetition-penalty, --repetition-window, --seed, --stop and --samples have no "
            "effect on it. Leave them out."
        )
    if draft is not None:
        raise RunError("A search takes no draft: leave out --draft.")
    if packing is not None:
        raise RunError("A search keeps its KV cache as it is: leave out --kv-bits.")
    if exits is not None:
        raise RunError("A search runs through all layers: leave out --exit-threshold.")


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
