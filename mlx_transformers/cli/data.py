"""`mlxt data list | prepare | inspect | rows`."""

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..core.errors import RunError
from .completion import recipe_names
from .options import AsJson, Recipe, Sets, note_unread, user_path
from .preparing import watch
from .terminal import print_table
from .usage import Verbs

if TYPE_CHECKING:
    from ..data.inspect import Report
    from ..data.prepared import Prepared
    from ..data.shards import Split

app = typer.Typer(cls=Verbs, help="Corpora, and texts prepared for training.", no_args_is_help=True)


@app.command("list")
def list_corpora(as_json: AsJson = False) -> None:
    """List the built-in corpora and the prepared sets."""
    from ..data.inspect import corpora, prepared_sets

    all_corpora, sets = corpora(), prepared_sets()
    if as_json:
        print(
            json.dumps(
                {
                    "corpora": [vars(corpus) for corpus in all_corpora],
                    "prepared": [{"folder": str(p.folder), **p.manifest} for p in sets],
                },
                indent=2,
            )
        )
        return
    print_table(
        ("corpus", "size", "here", "what"),
        [(c.name, c.size, "yes" if c.available else "download", c.what) for c in all_corpora],
    )
    print('\nUse one with data.corpus; a text of your own with data.path=FILE, FOLDER or "GLOB".\n')
    if not sets:
        print("Nothing is prepared yet: mlxt data prepare RECIPE, or mlxt train RECIPE.")
        return
    print_table(
        ("prepared", "tokenizer", "vocabulary", "train tokens", "valid tokens"),
        [
            (
                p.folder.name,
                p.manifest["tokenizer"]["kind"],
                f"{p.manifest['tokenizer']['vocab_size']:,}",
                f"{p.count('train'):,}",
                f"{p.count('valid'):,}",
            )
            for p in sets
        ],
        right=(2, 3, 4),
    )
    print(f"\nThese are folders in {sets[0].folder.parent}.")


@app.command()
def prepare(recipe: Recipe, set: Sets = None) -> None:
    """Tokenize the text of a recipe, as `train` does before its first step; a finished set is
    reused."""
    from ..assembly.recipe import load_recipe
    from ..data.prepare import prepare as run

    loaded = load_recipe(recipe, set or [])
    note_unread(set, read="data.")
    with watch() as progress:
        prepared = run(loaded.data, progress=progress)
    fresh = "Prepared" if progress.what else "Nothing to do, it is prepared:"
    print(f"{fresh} {prepared.folder}")
    print(
        f"{prepared.count('train'):,} tokens for training, {prepared.count('valid'):,} for "
        f"validation; {prepared.tokenizer.vocab_size:,} in the vocabulary; "
        f"{prepared.bytes_per_token('train'):.2f} bytes per token"
    )


@app.command()
def inspect(
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe, or the name or folder of a prepared set as 'data list' shows it.",
            metavar="RECIPE|SET",
            show_default=False,
            autocompletion=recipe_names,
        ),
    ],
    set: Sets = None,
    rows: Annotated[
        int, typer.Option(min=0, help="Rows of text to show of each split.", metavar="N")
    ] = 3,
    length: Annotated[
        int, typer.Option(min=1, help="Tokens of each of these rows.", metavar="N")
    ] = 64,
    as_json: AsJson = False,
) -> None:
    """Show the contents of a prepared set: counts, tokenizer, and rows of its text. A recipe whose
    data is not prepared yet is prepared first."""
    from ..data.inspect import report

    summary = report(_prepared(what, set or []), n_rows=rows, length=length)
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(summary)


@app.command("rows")
def write_rows(
    recipe: Recipe,
    to: Annotated[
        Path,
        typer.Option(
            parser=user_path, help="The new .jsonl file.", metavar="FILE", show_default=False
        ),
    ],
    split: Annotated[
        str, typer.Option(help="The rows to write: train or valid.", metavar="SPLIT")
    ] = "valid",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The most rows.", metavar="N", show_default="all of them"),
    ] = None,
    set: Sets = None,
) -> None:
    """Write the rows of a recipe's data to a file, by default those held out: questions for `mlxt
    eval --questions`, for instance, that no training on the recipe has seen."""
    from ..assembly.recipe import load_recipe
    from ..data.inspect import records

    if split not in ("train", "valid"):
        raise RunError(f"--split {split}: rows are of the split train or valid.")
    rows = islice(records(load_recipe(recipe, set or []).data, cast("Split", split)), limit)
    note_unread(set, read="data.")
    try:
        to.touch(exist_ok=False)
    except FileExistsError:
        raise RunError(f"{to} exists already. Choose another name.") from None
    except OSError as error:
        raise RunError(f"{to} can't be written: {error.strerror}.") from None
    try:
        with open(to, "w", encoding="utf-8") as file:
            n = 0
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                n += 1
    except BaseException as error:
        to.unlink()
        if isinstance(error, OSError):
            raise RunError(f"{to} can't be written: {error.strerror}.") from None
        raise
    print(f"Wrote {n:,} rows to {to}.")


def _prepared(what: str, sets: list[str]) -> "Prepared":
    from ..assembly.recipe import load_recipe
    from ..core.cache import cache_folder
    from ..core.paths import expanded
    from ..data.prepare import prepare
    from ..data.prepared import Prepared

    for folder in (cache_folder() / "data" / what, expanded(what)):
        if (folder / "manifest.json").is_file():
            if sets:
                raise RunError(f"'{what}' is prepared already: --set changes a recipe's data.")
            return Prepared(folder)
    loaded = load_recipe(what, sets)
    note_unread(sets, read="data.")
    with watch() as progress:
        return prepare(loaded.data, progress=progress)


def _print(report: "Report") -> None:
    facts = {
        "name": report.name,
        "folder": report.folder,
        "licence": report.licence,
        "source": report.attribution,
        "tokenizer": ", ".join(f"{k} {v}" for k, v in report.tokenizer.items() if v is not None),
        "stored as": f"{report.dtype}, {report.disk_bytes / 1e6:.1f} MB",
        "made with": ", ".join(f"{k} {v}" for k, v in report.packages.items()),
    }
    print_table(("", ""), [(name, value) for name, value in facts.items() if value])
    print()
    print_table(
        ("split", "documents", "tokens", "bytes", "bytes/token", "tokens used"),
        [
            (
                split.split,
                f"{split.documents:,}",
                f"{split.tokens:,}",
                f"{split.bytes:,}",
                f"{split.bytes_per_token:.3f}",
                f"{split.tokens_used:,}",
            )
            for split in report.splits
        ],
        right=range(1, 6),
    )
    for split in report.splits:
        for text in split.rows:
            print(f"\n{split.split}: {text!r}")
