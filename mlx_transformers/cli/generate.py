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
from .generate_alignment import check_file, check_source, plotted
from .generate_image import default_prompt, drawn, with_image
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
    ToolSets,
    TopK,
    TopP,
    Window,
    WithTools,
)
from .generate_tools import checked, generate_with_tools

MAX = 256
"""Default of --max-tokens."""


def generate(
    prompt: PromptTexts = None,
    prompts: PromptFile = None,
    image: ImageFile = None,
    samples: Samples = 1,
    run: Run = None,
    max_tokens: MaxTokens = MAX,
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
    set: ToolSets = None,
    as_json: AsJson = False,
) -> None:
    """Continue prompts with a trained run, translate or summarize a source, or draw a picture.

    A single text is streamed, and its speed printed to standard error; Ctrl-C ends it early.
    """
    search = _beams(1 if beams is None else beams, length_penalty)
    sampling = _sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    exits, packing = _exits(exit_threshold, exit_measure), _packing(kv_bits, kv_group_size)
    texts = _prompts(prompt or default_prompt(image, prompts), prompts)
    if tools or set:
        clash = special_tokens or not bos or any((beams, draft, alignment, exits, packing, image))
        turn = (max_tokens, sampling, seed, tuple(stop or ()))
        generate_with_tools(run, texts, turn, samples, checked(tools, set, clash), as_json)
        return
    loaded, artist = _loaded(run, alignment, len(texts))
    drafting = (draft, draft_tokens, draft_layers)
    single = (as_json, beams, *drafting, exits)
    unfit = (*single, packing, alignment, stop, special_tokens, not bos, max_tokens != MAX)
    if drawn(artist, texts, image, (samples, batch_size), (sampling, seed), unfit):
        return
    reading = {"bos": bos, "special_tokens": special_tokens}
    pairs, pixels = with_image(loaded, artist, texts, image, (samples > 1, *single), reading)
    if beams is not None or alignment is not None or "causal_lm" not in loaded[0].tasks:
        _check_search(sampling, seed, stop, samples, exits, draft, packing)
        _search(run, pairs, alignment, as_json, reading, search, loaded, max_tokens)
        return
    options = {"max_tokens": max_tokens, "sampling": sampling, "seed": seed, "stop": stop or ()}
    options |= reading | {"packing": packing} | pixels
    _continue(loaded, pairs, options, exits, drafting, samples, batch_size, as_json)


def _sampling(*options: Any) -> Any:
    """Build `Sampling` from its fields, in order.

    Raises:
        RunError: one is out of range.
    """
    from ..decode.sample import Sampling

    return Sampling(*options)


def _loaded(run: str | None, alignment: Path | None, n_texts: int) -> tuple[tuple[Any, Any], Any]:
    """The model and the tokenizer of a run; and both as an artist, if the model draws.

    Raises:
        RunError: there is no such run, or there is no one alignment to plot.
    """
    from ..assembly.saved import load
    from ..verbs.drawing import load_artist

    check_file(alignment, n_texts)
    with _waiting("Loading the run ..."):
        loaded = load(run)
        check_source(alignment, loaded[0])
        return loaded, load_artist(run, loaded)


def _continue(
    loaded: tuple[Any, Any],
    pairs: tuple[list[str], list[Any]],
    options: dict[str, Any],
    exits: Any,
    drafting: tuple[str | None, int | None, int | None],
    samples: int,
    rows: int,
    as_json: bool,
) -> None:
    """Print the continuations of prompts; a single one is streamed.

    `pairs` has the prompts as the user gave them, and as the model reads them.
    """
    if _is_single(len(pairs[0]) * samples, as_json, exits, any(drafting)):
        options = options | {"exits": exits} | drafted(*drafting, exits, loaded[1])
        _stream(*loaded, pairs[1][0], options)
    else:
        _batch(*loaded, pairs, as_json, options, samples, rows)


def _is_single(n_texts: int, as_json: bool, exits: Any, drafts: bool) -> bool:
    """Whether one text is streamed.

    Raises:
        RunError: several are, with early exits, which decode one row.
    """
    single = n_texts == 1 and not as_json
    if exits is not None and not single:
        raise RunError("--exit-threshold continues one prompt, once, without --json.")
    if drafts and not single:
        raise RunError("--draft continues one prompt, once, without --json.")
    return single


def _exits(threshold: float | None, measure: str) -> Any:
    """The condition of early exits; None: all layers run.

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
    """How the KV cache is quantized; None: it isn't.

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
    """Stream one text, then print its speed."""
    from ..decode.generate import stream

    pieces = stream(model, tokenizer, text, **options)
    finished = _show(pieces)
    typer.echo(pieces.stats.line(), err=True)
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _batch(
    model: Any,
    tokenizer: Any,
    pairs: tuple[list[str], list[Any]],
    as_json: bool,
    options: dict[str, Any],
    samples: int,
    rows: int,
) -> None:
    """Print all texts of all prompts, each under a line with its number."""
    from ..decode.generate import generate_batch

    with _waiting("Compiling and reading the prompts ...") as show:
        texts = generate_batch(
            model,
            tokenizer,
            pairs[1],
            progress=lambda done, total: show(f"{done:,} of {total:,} texts ..."),
            samples=samples,
            rows=rows,
            **options,
        )
    for p, (prompt, group) in enumerate(zip(pairs[0], texts, strict=True), 1):
        for s, sampled in enumerate(group, 1):
            if as_json:
                fields = {"tokens": sampled.tokens, "end_reason": sampled.end_reason}
                _print_json(prompt=prompt, sample=s, text=sampled.text, **fields)
                continue
            sample = f", sample {s}" if len(group) > 1 else ""
            print(f"--- prompt {p}{sample} ---\n{sampled.text}")


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
    pairs: tuple[list[str], list[Any]],
    alignment: Path | None,
    as_json: bool,
    reading: dict[str, Any],
    beams: Any,
    loaded: tuple[Any, Any],
    max_tokens: int,
) -> None:
    """Print the most probable text for each prompt or source; `reading` is how prompts are read."""
    from ..verbs.search import reads_source, search

    options = {} if reads_source(loaded[0]) else reading
    options = options | {"beams": beams, "loaded": loaded, "max_tokens": max_tokens}
    find = search if alignment is None else partial(plotted, alignment)
    for p, (prompt, as_read) in enumerate(zip(*pairs, strict=True), 1):
        with _waiting("Compiling and searching ..."):
            text = find(run, as_read, **options)
        if as_json:
            _print_json(prompt=prompt, text=text)
        else:
            print(f"--- prompt {p} ---\n{text}" if len(pairs[0]) > 1 else text)


def _prompts(prompts: list[str], file: Path | None) -> list[str]:
    """All prompts, those of the command line first.

    Raises:
        RunError: there is none, or the file can't be read.
    """
    if prompts.count("-") > 1:
        raise RunError("--prompt - reads all of standard input, so it can be given once.")
    texts = [_standard_input() if text == "-" else text for text in prompts]
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
        lines = [line.removesuffix("\r") for line in lines]
        texts += [line for line in lines if line]
        if not any(lines):
            raise RunError(f"--prompts {file} has no prompt: every line of it is empty.")
    if not texts:
        raise RunError("Give a prompt: --prompt TEXT, or --prompts FILE with one per line.")
    return texts


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
