"""`mlxt export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Run, Runs, user_path


class Format(StrEnum):
    """Formats of other libraries."""

    HF = "hf"
    MLX_LM = "mlx-lm"
    GGUF = "gguf"
    PEFT = "peft"


class Dtype(StrEnum):
    """Dtypes of written weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


To = Annotated[
    Format,
    typer.Option(
        help="hf for transformers, mlx-lm, gguf for llama.cpp, or peft for adapters alone."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="The folder to make; for gguf the file.",
        metavar="PATH",
        show_default="exports/RUN-FORMAT",
    ),
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(
        help="Dtype of the weights.",
        show_default="float32, or the dtype of an imported model",
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        help="Shorten the longest sequence to this many tokens.",
        metavar="TOKENS",
        show_default=False,
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="Type of the matrices of a gguf file; without it they are not quantized.",
        metavar="q8_0|q4_0",
        show_default=False,
    ),
]
GeluTanh = Annotated[
    bool,
    typer.Option(
        "--gelu-tanh",
        help="Write a gguf file even where llama.cpp has the tanh approximation of GELU alone.",
    ),
]
Anyway = Annotated[bool, typer.Option("--anyway", help="Write it even if it is far from the run.")]


def export(
    run: Run = None,
    to: To = Format.HF,
    out: Out = None,
    dtype: DtypeOption = None,
    context: Context = None,
    quantize: Quantize = None,
    gelu_tanh: GeluTanh = False,
    anyway: Anyway = False,
    runs: Runs = Path("runs"),
) -> None:
    """Write a run for transformers, mlx-lm or llama.cpp, with its tokenizer.

    The files are read again and compared with the run before they are put in place: KL divergence,
    changed tokens, perplexity. If the format cannot express the model, the error names the
    unsupported option.
    """
    from ..runs.folder import find_checkpoint
    from ..verbs.export_run import export_run

    name = find_checkpoint(run, runs)[0].name
    place = out or Path("exports") / f"{name}-{to}{'.gguf' if to is Format.GGUF else ''}"
    written = export_run(
        run,
        to,
        place,
        root=runs,
        dtype=dtype,
        context=context,
        quantize=quantize,
        gelu_tanh=gelu_tanh,
        anyway=anyway,
        say=print,
    )
    print(f"Written: {written}")
