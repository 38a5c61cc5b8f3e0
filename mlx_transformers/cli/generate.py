"""`mlxt generate`: continue prompts with a trained run, shown as they are written."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from . import generate_modes as modes
from .drafting import check_draft, drafting
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
from .generate_run import Opened, one_run, open_run, read_prompts
from .generate_text import print_batch, print_search, stream_text, waiting
from .generate_tools import generate_with_tools
from .options import Run

if TYPE_CHECKING:
    from ..decode.exits import Exits
    from ..decode.packed_cache import CachePacking
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
    from ..decode.beam import Beams
    from ..decode.sample import Sampling

    chosen = modes.mode_of_options(ctx)
    sampling = Sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    search = Beams(1 if beams is None else beams, alpha=length_penalty)
    exits, packing = _exits(exit_threshold, exit_measure), _packing(kv_bits, kv_group_size)
    run = one_run(run, named)
    check_draft(draft)
    texts = read_prompts(prompt or default_prompt(image, prompts), prompts)
    if chosen is modes.TOOLS:
        turn = (max_tokens, sampling, seed, tuple(stop or ()))
        generate_with_tools(run, texts, turn, samples, set or [], as_json)
        return
    if alignment is not None:
        check_new(alignment, "--alignment", (".svg", ".png"))
    with waiting("Loading the run ..."):
        opened = open_run(run)
    check_source(alignment, opened.reads_source)
    mode = modes.mode_of_model(ctx, chosen, opened, texts)
    if mode is modes.DRAWING:
        assert opened.artist is not None, "the model draws"
        assert image is not None, "the mode's option was given"
        draw(opened.artist, texts, image, samples, sampling, seed, batch_size)
        return
    read, pixels = as_read(opened, texts, image)
    options: dict[str, Any] = {"max_tokens": max_tokens}
    if opened.artist is None and not opened.reads_source:
        options |= {"bos": bos, "special_tokens": special_tokens}
    if mode in (modes.BEAMS, modes.ALIGNMENT, modes.SOURCE):
        _search(opened, texts, read, options | {"beams": search}, as_json, alignment)
        return
    options |= {"sampling": sampling, "seed": seed, "stop": stop or (), "packing": packing}
    if draft is not None:
        options |= drafting(draft, draft_tokens, draft_layers, opened.tokenizer)
    if mode.single or (len(texts) * samples == 1 and not as_json):
        stream_text(opened, read[0], options | {"exits": exits, "given": pixels})
    else:
        options |= {"samples": samples, "rows": batch_size}
        print_batch(opened, texts, read, options, as_json)


def _search(
    opened: Opened,
    texts: list[str],
    prompts: list[Any],
    options: dict[str, Any],
    as_json: bool,
    alignment: Path | None,
) -> None:
    """Print the most probable text of each prompt, and plot the alignment of a single one."""
    from ..verbs.search import search

    find = search if alignment is None else partial(plotted, alignment)
    print_search(opened, texts, prompts, options, as_json, find)


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
