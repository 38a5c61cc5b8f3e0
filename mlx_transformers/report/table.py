"""Formats the results of a ladder: as a table, Markdown, CSV and JSON."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of the table: field of a rung, title of at most two lines, format."""

    field: str
    title: str
    spec: str
    unit: float = 1
    """Number that the field is divided by."""


COLUMNS = (
    Column("recipe", "recipe", "s"),
    Column("parameters", "million\nweights", ",.3f", 1e6),
    Column("active_parameters", "active\nper token", ",.3f", 1e6),
    Column("val_bpb", "val\nbits/byte", ".3f"),
    Column("delta_bpb", "Δ parent", "+.3f"),
    Column("tokens_per_s", "train\ntokens/s", ",.0f"),
    Column("peak_gib", "peak\nGiB", ".2f"),
    Column("decode_tokens_per_s", "decode\ntokens/s", ",.0f"),
    Column("cache_bytes_per_token", "cache\nbytes/token", ",.0f"),
)
"""Columns of the table, together at most 100 characters wide."""


def cells(rungs: Sequence[Any]) -> list[list[str]]:
    """Format the columns of every rung."""
    return [[_cell(getattr(rung, column.field), column) for column in COLUMNS] for rung in rungs]


def _cell(value: Any, column: Column) -> str:
    if value is None:
        return ""
    return format(value if column.unit == 1 else value / column.unit, column.spec)


def markdown(rungs: Sequence[Any]) -> str:
    """Format the rungs as a Markdown table, numbers aligned to the right."""
    titles = [column.title.replace("\n", " ") for column in COLUMNS]
    rule = ["---", *["---:"] * (len(titles) - 1)]
    rows = [titles, rule, *cells(rungs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def write(folder: Path, rungs: Sequence[Any]) -> list[Path]:
    """Write ladder.json, ladder.csv and ladder.md."""
    rows = [asdict(rung) for rung in rungs]
    files = [folder / f"ladder.{suffix}" for suffix in ("json", "csv", "md")]
    files[0].write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    with files[1].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    files[2].write_text(markdown(rungs), encoding="utf-8")
    return files
