"""Formats the figures of `mlxt bench`: a table for a terminal, and a line for docs/macs.md."""

from collections.abc import Sequence

from ..profile.rung import BenchRow

TITLES = (
    "recipe",
    "train\ntokens/s",
    "MFU",
    "peak\nGiB",
    "decode\ntokens/s",
    "kJ/million\ntokens",
)


def cells(row: BenchRow) -> tuple[str, ...]:
    """The cells of a recipe; "-" stands for what could not be measured."""
    joules = row.joules_per_million_tokens
    return (
        row.recipe,
        _text(row.tokens_per_s, ",.0f"),
        _text(row.mfu, ".0%"),
        _text(row.peak_gib, ".2f"),
        _text(row.decode_tokens_per_s, ",.0f"),
        _text(None if joules is None else joules / 1e3, ",.2f"),
    )


def reasons(rows: Sequence[BenchRow]) -> list[str]:
    """Why cells are empty, each reason once, with the recipes that it is about."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        missing = [row.error] if row.error else [
            row.mfu_missing and f"No MFU: {row.mfu_missing}.",
            row.energy_missing and f"No energy: {row.energy_missing}.",
        ]  # fmt: skip
        for reason in missing:
            if reason:
                by_reason.setdefault(reason, []).append(row.recipe)
    return [f"{', '.join(recipes)}: {reason}" for reason, recipes in by_reason.items()]


def heads(recipes: Sequence[str]) -> str:
    """The head of a Markdown table with a line for each machine."""
    titles = ["chip", "memory GiB", "system", "MLX", *recipes]
    return f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}"


def line(machine: Sequence[str], rows: Sequence[BenchRow]) -> str:
    """A machine as a line of that table.

    Args:
        machine: chip, memory, system and version of MLX.
        rows: the figures of each recipe, which share a cell in the order of `TITLES`.
    """
    figures = [" · ".join(cells(row)[1:]) for row in rows]
    return f"| {' | '.join([*machine, *figures])} |"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
