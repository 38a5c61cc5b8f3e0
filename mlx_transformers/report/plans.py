"""Section of a report that compares planned with measured memory."""

from collections.abc import Mapping
from html import escape
from typing import Any

from . import page
from .charts import bars

MIB, GIB = 2**20, 2**30


def plan_rows(plan: Mapping[str, Any], most: Mapping[str, float]) -> dict[str, str]:
    """Rows of planned and measured memory; empty for a run without a plan.

    `most` holds the maximum of each memory metric over the run's records, in GiB.
    """
    if not plan:
        return {}
    out = {"peak, planned": _mib(plan["peak_bytes"])}
    if measured := plan.get("measured_bytes"):
        out["peak, measured in the first steps"] = _mib(measured)
        out["… plan against it"] = f"{plan['peak_bytes'] / measured - 1:+.1%}"
    if "peak_gib" in most:
        out["peak of the whole run, with evaluation and samples"] = _mib(most["peak_gib"] * GIB)
    out["budget"] = _mib(plan["budget_bytes"])
    out["cache limit"] = _mib(plan["cache_limit_bytes"])
    if "cache_gib" in most:
        out["… largest cache"] = _mib(most["cache_gib"] * GIB)
    if plan["wired_limit_bytes"] is not None:
        out["wired limit"] = _mib(plan["wired_limit_bytes"])
    out["correction by earlier runs"] = f"{plan['correction']:.2f}"
    out["microbatches of a step"] = f"{plan['accumulate']} of {plan['batch_size']} rows"
    if (streams := plan.get("cpu_streams", 1)) > 1:
        out["CPU streams that share a microbatch"] = str(streams)
    out["recomputed blocks"] = ", ".join(map(str, plan["recompute"])) or "none"
    if paging := plan.get("paging"):
        how = "measured" if paging["measured"] else "assumed"
        out["optimizer state and gradients in a file"] = _mib(paging["file_bytes"])
        out["… to read and write it in a step, at most"] = f"{paging['seconds_per_step']:.2g} s"
        out["… bandwidth of the disk"] = f"{paging['bytes_per_s'] / 1e9:.2g} GB/s, {how}"
    out["rows of a chunk of the loss"] = f"{plan['chunk']:,}"
    return out


def parts(plan: Mapping[str, Any]) -> str:
    """Draw the parts of the planned peak as bars; empty for a run without a plan."""
    if not plan:
        return ""
    sizes = [(name, size / MIB) for name, size in plan["parts_bytes"].items()]
    svg = bars("plan-parts", "Planned peak by part, MiB", sizes, unit="MiB")
    return page.figures(page.figure(svg, "Planned peak by part", "MiB"))


def phases(plan: Mapping[str, Any]) -> str:
    """Table of the planned memory of each phase of a step, the largest marked."""
    if not plan:
        return ""
    sizes = plan["phases_bytes"]
    rows = [[escape(name), _mib(size)] for name, size in sizes.items()]
    largest = max(range(len(rows)), key=list(sizes.values()).__getitem__)
    table = page.table(["phase of a step", "planned"], rows, best=largest)
    return page.folded("Every phase of a step", table)


def _mib(size: float) -> str:
    return f"{size / MIB:,.1f} MiB" if size < GIB else f"{size / GIB:,.2f} GiB"
