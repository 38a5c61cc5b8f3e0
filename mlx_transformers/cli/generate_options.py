"""Options of `mlxt generate`."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
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
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--image",
        parser=user_path,
        help="A picture that is read: the prompt has `<image>` where it stands, and is that alone "
        "if none is given. With a model that draws and a prompt without `<image>` it is the new "
        ".png file that the drawing is written to, never one that exists; several prompts, or "
        "--samples, are drawn side by side.",
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
        help="Leave the model at the first layer whose prediction is this confident, for one "
        "prompt. For runs that were trained with early exits (objective early_exit).",
        metavar="X",
        show_default="never",
    ),
]
DraftRun = Annotated[
    str | None,
    typer.Option(
        help="Speculative decoding of one prompt; the distribution of texts is the same. A smaller "
        "run with the same tokenizer proposes tokens; 'lookup' copies them from the text so far, "
        "'mtp' takes the run's own multi-token prediction, 'early_exit' its first layers.",
        metavar="RUN|lookup|mtp|early_exit",
        show_default=False,
    ),
]
DraftTokens = Annotated[
    int | None, typer.Option(help="Tokens that --draft proposes at once.", metavar="N", min=1)
]
DraftLayers = Annotated[
    int | None,
    typer.Option(
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
        help="Bits of a number in the KV cache, 8 or 4.",
        metavar="8|4",
        show_default="those of the model",
    ),
]
KvGroup = Annotated[
    int | None,
    typer.Option(
        "--kv-group-size",
        help="Features of a key or value that share a scale: 32, 64 or 128.",
        metavar="N",
        show_default="64",
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
WithTools = Annotated[
    bool,
    typer.Option(
        "--tools",
        help="Take each prompt as a message of the user, and let the model call the tools of "
        "[tools]; --set tools.calculator=true adds one.",
    ),
]
