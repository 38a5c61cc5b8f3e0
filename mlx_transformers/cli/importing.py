"""`mlxt import`."""

from pathlib import Path
from typing import Annotated

import typer

from ..core.paths import command_line
from .options import Runs, user_path


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            parser=user_path,
            help="A folder with config.json and safetensors, as models are published; or a .gguf.",
            metavar="DIR",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The run's name.", metavar="NAME", show_default="the folder's name"),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            help="A folder with an adapter of PEFT, mlx-lm or adapters, for that model.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    keep_packed: Annotated[
        bool,
        typer.Option(
            "--keep-packed",
            help="Keep Q4_0, Q4_1 and Q8_0 weights of a .gguf packed, instead of decoding them.",
        ),
    ] = False,
    text_only: Annotated[
        bool,
        typer.Option(
            "--text-only",
            help="Import the language model of a model that also sees, without its vision tower.",
        ),
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Make a run of a published model, for generate, embed, eval, finetune, show and export.

    Nothing in the folder is executed or unpickled. An unsupported family, option or tensor is an
    error that names it.
    """
    from ..assembly.recipe import load_recipe
    from ..data.tokenizers.load import load_tokenizer
    from ..verbs.import_run import import_run

    folder = import_run(
        source, name, runs, adapter=adapter, packed=keep_packed, text_only=text_only
    )
    tokenizer = load_tokenizer(folder.tokenizer)
    print(f"{folder.path}: imported from {source}, with a tokenizer of the kind {tokenizer.kind}.")
    if tokenizer.kind == "numbers":
        print("There was none in that folder: prompts are token numbers, as in '3 14 15'.")
    model = load_recipe(folder.recipe).model
    words = ("generate", "--run") if model.generates else ("embed",)
    option = '--prompt "..."' if model.generates else '--text "..." --text "..."'
    print(f"Try it: {command_line(*words, folder.path)} {option}")
