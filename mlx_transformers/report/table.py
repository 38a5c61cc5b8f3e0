"""Ladder results as a table on the screen, as Markdown, CSV and JSON, and as a plot."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

COLUMNS: dict[str, tuple[str, str]] = {
    "recipe": ("recipe", "s"),
    "parameters": ("parameters", ",d"),
    "active_parameters": ("active", ",d"),
    "val_bpb": ("val bits/byte", ".3f"),
    "delta_bpb": ("Δ parent", "+.3f"),
    "tokens_per_s": ("train tokens/s", ",.0f"),
    "peak_gib": ("peak GiB", ".2f"),
    "decode_tokens_per_s": ("decode tokens/s", ",.0f"),
    "cache_bytes_per_token": ("cache bytes/token", ",.0f"),
}
"""Shown columns: title and format, by field of a rung."""


def cells(rungs: Sequence[Any]) -> list[list[str]]:
    """The shown text of every rung's columns."""
    return [
        [
            "" if (value := getattr(rung, field)) is None else format(value, spec)
            for field, (_, spec) in COLUMNS.items()
        ]
        for rung in rungs
    ]


def markdown(rungs: Sequence[Any]) -> str:
    """A Markdown table, numbers aligned to the right."""
    titles = [title for title, _ in COLUMNS.values()]
    rule = ["---", *["---:"] * (len(titles) - 1)]
    rows = [titles, rule, *cells(rungs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write(folder: Path, rungs: Sequence[Any]) -> list[Path]:
    """ladder.json, ladder.csv, ladder.md, and ladder.svg where a plotting library is installed."""
    rows = [asdict(rung) for rung in rungs]
    files = [folder / f"ladder.{suffix}" for suffix in ("json", "csv", "md")]
    files[0].write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    with files[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    files[2].write_text(markdown(rungs), encoding="utf-8")
    return files
