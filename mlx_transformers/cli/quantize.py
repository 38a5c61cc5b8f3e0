"""`mlxt quantize`."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.paths import command_line
from .options import Calibrate, ModelSource, Runs

Name = Annotated[
    str | None,
    typer.Option(help="The new run's name.", metavar="NAME", show_default="SRC-METHOD-BITSbit"),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        "--q-bits",
        help="Bits of a weight: 2, 3, 4, 5, 6 or 8.",
        metavar="N",
        show_default="4",
    ),
]
GroupSize = Annotated[
    int | None,
    typer.Option(
        "--group-size",
        "--q-group-size",
        help="Weights that share a scale: 32, 64 or 128.",
        metavar="N",
        show_default="64",
    ),
]
Mode = Annotated[str, typer.Option(help="affine, mxfp4, mxfp8 or nvfp4.", metavar="MODE")]
Method = Annotated[
    str,
    typer.Option(
        help="plain, gptq, awq, or mixed: bits by the sensitivity of each layer.",
        metavar="METHOD",
    ),
]
Layer = Annotated[
    list[str] | None,
    typer.Option(
        help="Another packing of some layers: PATTERN=BITS[:GROUP_SIZE[:MODE]], or PATTERN=no; "
        "repeatable.",
        metavar="PATTERN=HOW",
        show_default=False,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="Bits per weight on average with --method mixed, scales included.",
        metavar="X",
        show_default="those of --bits",
    ),
]
Scales = Annotated[
    str,
    typer.Option(help="Dtype of scales: float16, bfloat16 or float32.", metavar="DTYPE"),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Write the run even if it is far from its source.")
]


def quantize(
    source: ModelSource,
    name: Name = None,
    bits: Bits = None,
    group_size: GroupSize = None,
    mode: Mode = "affine",
    method: Method = "plain",
    calibrate: Calibrate = None,
    layer: Layer = None,
    budget: Budget = None,
    scales: Scales = "float16",
    anyway: Anyway = False,
    runs: Runs = Path("runs"),
) -> None:
    """Store the weights of a model in few bits, as a new run that opens like any other.

    The result is compared with its source on text that calibration didn't read: KL divergence,
    changed tokens, perplexity.
    """
    from ..verbs.quantize import Settings, quantize

    settings = Settings(
        bits, group_size, mode, method, calibrate, layer or (), budget, scales, anyway
    )
    folder, _ = quantize(source, settings, name=name, root=runs)
    command = command_line("generate", "--run", folder.path)
    print(f'{folder.path}: written. Try it: {command} --prompt "..."')
