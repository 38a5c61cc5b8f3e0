"""`mlxt look`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
from .options import Runs, user_path

Prompt = Annotated[
    str | None,
    typer.Option(
        help="The text that the model reads; the source of an encoder-decoder. Required unless the "
        "model reads pictures alone.",
        metavar="TEXT",
        show_default=False,
    ),
]
Run = Annotated[
    str | None,
    typer.Argument(
        help="A run's name or folder, or one of its checkpoints (runs/NAME/checkpoints/STEP).",
        metavar="RUN",
        show_default="the newest run in ./runs",
        autocompletion=run_names,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        parser=user_path,
        help="The HTML file to write; the data goes beside it, as .json.",
        metavar="FILE",
    ),
]
Edit = Annotated[
    str | None,
    typer.Option(
        help="The text with another token somewhere, shown beside it, and which layers and "
        "positions carry the difference (activation patching).",
        metavar="TEXT",
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        help="Another run or checkpoint, shown beside it on the same text.",
        metavar="RUN",
        show_default=False,
        autocompletion=run_names,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="The target that an encoder-decoder reads beside the source.",
        metavar="TEXT",
        show_default="the one that it writes itself",
    ),
]
Image = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="A picture, for vision transformers, CLIP and vision-language models. The last read "
        "its patches where the prompt has `<image>`, or before it.",
        metavar="FILE",
        show_default=False,
    ),
]


def look(
    run: Run = None,
    prompt: Prompt = None,
    out: Out = Path("look.html"),
    edit: Edit = None,
    against: Against = None,
    target: Target = None,
    image: Image = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show what a model does inside while it reads a text or a picture, as one offline HTML page.

    Attention of all heads, logit lens, probabilities and surprise, residual stream, experts,
    attributions by gradients, and embeddings; of a picture, what each patch reads.
    """
    from ..verbs.look import look_page

    command = shlex.join(["mlxt", *sys.argv[1:]])
    more = {"edit": edit, "target": target, "against": against}
    page, data = look_page(run, prompt, out, image=image, root=runs, command=command, **more)
    print(f"Written: {page}, and the data: {data}")
