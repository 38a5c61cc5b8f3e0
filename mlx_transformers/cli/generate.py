"""`mlxt generate`: continue prompts with a trained run, shown as they are written."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from . import generate_modes as modes
from .drafting import drafting
from .generate_alignment import check_new, check_source, plotted
from .generate_image import as_read, default_prompt, draw
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
    NamedRun,
    Penalty,
    PromptFile,
    PromptTexts,
    Rows,
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
from .generate_run import Opened, Texts, one_run, open_run, read_prompts
from .generate_text import print_search, print_texts, waiting
from .generate_tools import generate_with_tools
from .options import Run

if TYPE_CHECKING:
    from ..decode.beam import Beams
    from ..decode.exits import Exits
    from ..decode.packed_cache import CachePacking
    from ..decode.sample import Sampling
    from ..ops.exits import Measure


def generate(
    ctx: typer.Context,
    run: Run = None,
    prompt: PromptTexts = None,
    prompts: PromptFile = None,
    image: ImageFile = None,
    samples: Samples = 1,
    named: NamedRun = None,
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
    set: ToolSets = None,
    as_json: AsJson = False,
) -> None:
    """Continue prompts with a trained run, translate or summarize a source, or draw a picture.

    A single text is streamed, and its speed printed to standard error; Ctrl-C ends it early.
    """
    chosen = modes.mode_of_options(ctx)
    sampling = _sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    search, exits = _beams(beams, length_penalty), _exits(exit_threshold, exit_measure)
    packing, run = _packing(kv_bits, kv_group_size), one_run(run, named, draft)
    texts = read_prompts(prompt or default_prompt(image, prompts), prompts)
    if chosen is modes.TOOLS:
        generate_with_tools(run, texts, (max_tokens, sampling, seed, stop), samples, set, as_json)
        return
    opened = _opened(run, alignment)
    mode = modes.mode_of_model(ctx, chosen, opened, texts)
    if mode is modes.DRAWING:
        draw(opened.artist, texts, image, samples, sampling, seed, batch_size)
        return
    texts_read, options, pixels = as_read(opened, texts, image, bos, special_tokens)
    options["max_tokens"] = max_tokens
    if mode in modes.SEARCHES:
        _search(opened, texts_read, options | {"beams": search}, alignment, as_json)
        return
    options |= {"sampling": sampling, "seed": seed, "stop": stop or (), "packing": packing}
    alone = drafting(draft, draft_tokens, draft_layers, opened) | {"exits": exits, "given": pixels}
    print_texts(opened, texts_read, options, alone, (samples, batch_size), as_json)


def _opened(run: str | None, alignment: Path | None) -> Opened:
    """Open the run, and refuse a picture of an alignment that can't be made.

    Raises:
        RunError: its model writes no text, or has no source, or the file can't be written.
    """
    if alignment is not None:
        check_new(alignment, "--alignment", (".svg", ".png"))
    with waiting("Loading the run ..."):
        opened = open_run(run)
    check_source(alignment, opened.reads_source)
    return opened


def _search(
    opened: Opened, texts: Texts, options: dict[str, Any], alignment: Path | None, as_json: bool
) -> None:
    """Print the most probable text of each prompt, and plot the alignment of a single one."""
    from ..verbs.search import search

    find = search if alignment is None else partial(plotted, alignment)
    print_search(opened, texts, options, as_json, find)


def _sampling(*options: Any) -> "Sampling":
    """Return the options of sampling, from the fields in their order.

    Raises:
        RunError: one is out of range.
    """
    from ..decode.sample import Sampling

    return Sampling(*options)


def _beams(n: int | None, length_penalty: float) -> "Beams":
    """Return the beams of a search; without a number one.

    Raises:
        RunError: there is none, or the penalty is out of range.
    """
    from ..decode.beam import Beams

    return Beams(1 if n is None else n, alpha=length_penalty)


def _exits(threshold: float | None, measure: str) -> "Exits | None":
    """Return the condition of early exits; None: all layers run.

    Raises:
        RunError: the threshold or the measure is out of range.
    """
    from ..decode.exits import Exits

    return None if threshold is None else Exits(threshold, cast("Measure", measure))


def _packing(bits: int | None, group_size: int | None) -> "CachePacking | None":
    """Return how the KV cache is quantized; None: it isn't.

    Raises:
        RunError: the bits or the group size don't exist.
    """
    from ..decode.packed_cache import CachePacking

    if bits is None:
        return None
    return CachePacking(bits) if group_size is None else CachePacking(bits, group_size)
