"""`mlxt embed`: vectors of texts, and their cosines."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import RunError
from ..core.parse import read_text
from .options import AsJson, Run, Runs, user_path

SHOWN = 12
"""Texts of a printed table of cosines."""


Texts = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        help="A file with one text per line.",
        metavar="FILE",
        show_default=False,
    ),
]


def embed(
    run: Run = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text. Repeatable.", metavar="TEXT", show_default=False),
    ] = None,
    texts: Texts = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            help="Write the vectors to a new file: .npy, or .jsonl with the texts.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Vector of a text: own (the model's sentence pool), first, last or mean.",
            metavar="POOL",
            show_default="own, or mean without one",
        ),
    ] = None,
    as_json: AsJson = False,
    runs: Runs = Path("runs"),
) -> None:
    """Print the cosine of each pair of texts, or write their vectors.

    Works with encoders and decoders, trained here or imported.
    """
    from ..runs.folder import find_checkpoint
    from ..verbs.embed import cosines, open_embedder, pool_of, write_vectors

    find_checkpoint(run, runs)
    all_texts = _texts(text or [], texts)
    if out is not None and as_json:
        raise RunError("--out writes the vectors to a file, --json prints them: give one of them.")
    if out is not None and out.exists():
        raise RunError(f"{out} exists already. Choose another --out.")
    vectors = open_embedder(run, pool_of(pool), runs)(all_texts)
    if out is not None:
        write_vectors(out, all_texts, vectors)
        print(f"Written: {out}, {len(all_texts)} vectors of width {vectors.shape[1]}.")
        return
    table = cosines(vectors)
    if as_json:
        print(
            json.dumps({"texts": all_texts, "vectors": vectors.tolist(), "cosines": table.tolist()})
        )
    elif len(all_texts) > SHOWN:
        raise RunError(f"{len(all_texts)} texts are too many to print: write them with --out FILE.")
    elif len(all_texts) == 1:
        print(" ".join(f"{x:.4f}" for x in vectors[0]))
    else:
        for i, label in enumerate(all_texts):
            print(" ".join(f"{x:6.3f}" for x in table[i]), " ", label)


def _texts(texts_given: list[str], file: Path | None) -> list[str]:
    """Return all texts, those of the command line first.

    Raises:
        RunError: there is none, or the file can't be read.
    """
    all_texts = list(texts_given)
    if file is not None:
        lines = read_text(file, f"--texts {file}", RunError).split("\n")
        all_texts += [line for line in lines if line.strip()]
    if not all_texts:
        raise RunError("Give a text: --text TEXT, or --texts FILE with one per line.")
    return all_texts
