"""Options of `mlxt generate`."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names, tool_keys
from .options import user_path

READING = "How the prompt is read"
SAMPLING = "Sampling"
SEARCH = "Beam search and encoder-decoders"
SPEED = "Speed and memory"
TOOLS = "Tools"

PromptTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        "-p",
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
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--image",
        parser=user_path,
        help="For a model that sees: the picture to read, at the place of `<image>` in the prompt "
        "(by default the prompt is `<image>` alone). For a model that draws and a prompt without "
        "`<image>`: the new .png file to write; several prompts, or --samples, are drawn side by "
        "side.",
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
        "--batch-size",
        rich_help_panel=SPEED,
        help="Texts generated in one batch.",
        metavar="N",
        min=1,
        max=100_000,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a line of JSON for each text: prompt, sample, text, tokens, end_reason.",
    ),
]
NamedRun = Annotated[
    str | None,
    typer.Option(
        "--run",
        "--model",
        help="The run, instead of by the argument.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", "-m", help="The most tokens to generate.", metavar="N")
]
Temp = Annotated[
    float,
    typer.Option(
        "--temp",
        "--temperature",
        rich_help_panel=SAMPLING,
        help="Temperature: 0 always takes the most probable token, 1 draws from the model's own "
        "distribution, higher values flatten it.",
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="Nucleus sampling: draw from the fewest tokens with this total probability.",
    ),
]
TopK = Annotated[
    int,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="Draw from this many of the most probable tokens; 0 from all.",
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="Draw from tokens at least this probable relative to the most probable.",
    ),
]
Penalty = Annotated[
    float,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="Repetition penalty: above 1 makes tokens that occurred less likely.",
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="How many of the last tokens the penalty counts.",
        show_default="all of them",
    ),
]
BeamCount = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=SEARCH,
        help="Search for the most probable text with this many beams instead of drawing; "
        "encoder-decoders always search, by default with 1.",
        show_default=False,
    ),
]
LengthPenalty = Annotated[
    float,
    typer.Option(
        rich_help_panel=SEARCH,
        help="The exponent of beam search's length penalty; 0 favours short texts.",
    ),
]
AlignmentFile = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=SEARCH,
        parser=user_path,
        help="Also plot the attention of an encoder-decoder over its source, to a new .svg or "
        ".png file.",
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="The same seed gives the same text; text number n is drawn with seed + n.",
    ),
]
Bos = Annotated[
    bool,
    typer.Option(
        "--bos/--no-bos",
        rich_help_panel=READING,
        help="Prepend the tokens that the tokenizer's template puts before a text (mostly BOS).",
    ),
]
SpecialTokens = Annotated[
    bool,
    typer.Option(
        "--special-tokens/--no-special-tokens",
        rich_help_panel=READING,
        help="Read special tokens that are spelled out in a prompt, as in `<|im_start|>user`, as "
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
        rich_help_panel=SPEED,
        help="Stop at the first layer whose prediction is this confident, for one prompt. For runs "
        "trained with early exits (objective early_exit).",
        metavar="X",
        show_default="never",
    ),
]
DraftRun = Annotated[
    str | None,
    typer.Option(
        "--draft",
        "--draft-model",
        rich_help_panel=SPEED,
        help="Speculative decoding of one prompt; the distribution of texts is the same. A smaller "
        "run with the same tokenizer proposes tokens; 'lookup' copies them from the text so far, "
        "'mtp' uses the run's own multi-token prediction heads, 'early_exit' its first layers.",
        metavar="RUN|lookup|mtp|early_exit",
        show_default=False,
        autocompletion=run_names,
    ),
]
DraftTokens = Annotated[
    int | None,
    typer.Option(
        "--draft-tokens",
        "--num-draft-tokens",
        rich_help_panel=SPEED,
        help="Tokens that --draft proposes at once.",
        metavar="N",
        min=1,
        show_default="4",
    ),
]
DraftLayers = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=SPEED,
        help="Layers of --draft early_exit.",
        metavar="N",
        min=1,
        show_default="a quarter of them",
    ),
]
KvBits = Annotated[
    int | None,
    typer.Option(
        "--kv-bits",
        rich_help_panel=SPEED,
        help="Quantize the KV cache to 8 or 4 bits.",
        metavar="8|4",
        show_default="the model's dtype",
    ),
]
KvGroup = Annotated[
    int | None,
    typer.Option(
        "--kv-group-size",
        rich_help_panel=SPEED,
        help="Features of a key or value that share a quantization scale: 32, 64 or 128.",
        metavar="N",
        show_default="64",
    ),
]
ExitMeasure = Annotated[
    str,
    typer.Option(
        rich_help_panel=SPEED,
        help="Confidence of --exit-threshold: max_prob, margin (of the two most probable tokens), "
        "or entropy, a share of its maximum that must be below the threshold.",
        metavar="max_prob|margin|entropy",
    ),
]
WithTools = Annotated[
    bool,
    typer.Option(
        "--tools",
        rich_help_panel=TOOLS,
        help="Treat each prompt as a user's message, and let the model call the tools of the "
        "recipe's [tools]; --set tools.calculator=true adds one.",
    ),
]
ToolSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        rich_help_panel=TOOLS,
        metavar="KEY=VALUE",
        help="Change a key of the recipe's [tools], with --tools; repeatable.",
        show_default=False,
        autocompletion=tool_keys,
    ),
]
