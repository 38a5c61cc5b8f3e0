"""Rows of the slot `batch`, and the text and records that they are made of."""

import json
from pathlib import Path

from .suite import Row

TEXT = "".join(
    f"The {n} green bottles hang on a wall. {'One' if n % 3 else 'Another'} falls! Is it late?\n"
    for n in range(120)
)
RECORDS = [
    {
        "source": f"{n} green bottles",
        "target": f"bottles {'green ' * (n % 4)}{n}",
        "title": f"on {n}",
        "body": f"wall {n * 7}",
    }
    for n in range(60)
]
SEQ_LEN = 24

ROWS = [
    Row("batch", "rows", {"kind": "rows"}),
    Row("batch", "pairs", {"kind": "pairs"}),
]

CHANGES = {
    "rows": {},
    "pairs": {
        "source_key": "title",
        "target_key": "body",
        "prefix": "say: ",
        "lengths": [12, 24],
        "reverse_source": True,
        "start": "end",
    },
}


def write_files(folder: Path) -> None:
    """The text and the records that batches are made of."""
    (folder / "text.txt").write_text(TEXT)
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
