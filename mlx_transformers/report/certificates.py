"""The certificate of a run in its report: what `mlxt verify` measured."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ..core.errors import FormatError
from ..core.parse import read_table
from ..runs.folder import RunFolder
from . import page

FILE = "certificate.json"


def certificate(folder: RunFolder) -> str:
    """Make the table of a run's certificate; empty where there is none that can be read."""
    place = folder.path / FILE
    try:
        rows = read_table(place)["rows"] if place.is_file() else []
        cells = [_cells(row) for row in rows]
    except (OSError, FormatError, KeyError, TypeError, ValueError):
        return ""
    return page.table(("row", "", "worst", "bound", ""), cells) if cells else ""


def _cells(row: Mapping[str, Any]) -> list[str]:
    worst = "" if row["worst"] is None else f"{float(row['worst']):.2g}"
    texts = (row["name"], row["state"], worst, f"{float(row['tolerance']):g}")
    return [escape(str(text)) for text in (*texts, row["note"] or row["promise"])]
