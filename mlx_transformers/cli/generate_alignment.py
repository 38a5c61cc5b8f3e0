"""`mlxt generate --alignment`: the attention over a source as a picture."""

from pathlib import Path
from typing import Any

from ..core.errors import RunError


def check_source(file: Path | None, reads_source: bool) -> None:
    """Refuse a picture for a model without a source."""
    if file is not None and not reads_source:
        raise RunError("--alignment is for encoder-decoders, which have a source: leave it out.")


def check_new(file: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse a file to be written that has another suffix, exists already, or is in no folder."""
    if file.suffix not in suffixes:
        raise RunError(f"{option} {file}: end the name with {' or '.join(suffixes)}.")
    if file.exists():
        raise RunError(f"{file} exists already. Give {option} another name, or remove it.")
    if not file.parent.is_dir():
        raise RunError(f"{option} {file}: there is no folder {file.parent}. Make it first.")


def plotted(file: Path, run: str | None, text: str, **how: Any) -> str:
    """Search, plot the alignment to `file`, and return the text."""
    from ..report.plot import alignment
    from ..verbs.search import align

    target, attended = align(run, text, **how)
    alignment(attended.weights, attended.source, attended.target, file)
    return target
