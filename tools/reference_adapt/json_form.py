"""Cases of form `json`: options, inputs and expected values per variant, as JSON."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """Computes the variants of cases whose `source` matches `pattern`: `(folder, options, inputs)`
    to values by output."""

    pattern: str
    compute: Callable[[Path, dict[str, Any], dict[str, Any]], dict[str, Any]]


def run(folder: Path, meta: dict[str, Any], rules: tuple[Rule, ...]) -> dict[str, Any]:
    """The outputs of all variants, by variant.

    Raises:
        LookupError: no rule matches the case's source.
    """
    rule = next((r for r in rules if re.search(r.pattern, meta["source"], re.IGNORECASE)), None)
    if rule is None:
        raise LookupError(f"no rule matches the source {meta['source']!r}")
    table = json.loads((folder / "expected.json").read_text())
    shared = table.get("inputs", {})
    return {
        name: rule.compute(folder, variant.get("options", {}), shared | variant.get("inputs", {}))
        for name, variant in table["variants"].items()
    }


def score(folder: Path, meta: dict[str, Any], got: dict[str, Any]) -> dict[str, Any]:
    """List the outputs that differ: numbers relative to the larger of the expected one and 1, all
    else exactly; an expected error has to be part of the one raised."""
    expected = json.loads((folder / "expected.json").read_text())["variants"]
    wrong, missing = [], []
    for name, variant in expected.items():
        if isinstance(variant["expected"], list):  # of a value without names
            if not agree(got[name], variant["expected"], meta["tolerance"]):
                wrong.append(name)
            continue
        for output, value in variant["expected"].items():
            where = f"{name}.{output}"
            if output not in got[name]:
                missing.append(f"no {where}")
            elif output == "error":
                if value not in got[name]["error"]:
                    wrong.append(f"{where} {got[name]['error']!r}")
            elif not agree(got[name][output], value, meta["tolerance"]):
                wrong.append(where)
    return {"ok": not wrong and not missing, "wrong": wrong, "missing": missing}


def agree(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two JSON values agree."""
    if isinstance(b, dict):
        return isinstance(a, dict) and all(k in a and agree(a[k], b[k], tolerance) for k in b)
    if isinstance(b, list):
        return (
            isinstance(a, list)
            and len(a) == len(b)
            and all(agree(x, y, tolerance) for x, y in zip(a, b, strict=True))
        )
    if isinstance(b, float) and isinstance(a, int | float):
        return abs(a - b) <= tolerance * max(abs(b), 1.0)
    return bool(a == b)
