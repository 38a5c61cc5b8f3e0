"""`mlxt plan`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, Recipe, Sets
from .terminal import print_table

if TYPE_CHECKING:
    from ..assembly.plan import Plan


def plan(
    recipe: Recipe,
    chip: Annotated[
        str | None,
        typer.Option(
            help="Plan for another Mac, as in 'M3 Max 64GB'.",
            metavar="CHIP",
            show_default="this machine",
        ),
    ] = None,
    set: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Predict the memory and the speed of a recipe's training, before it starts."""
    from ..assembly.model import draft_model, recipe_vocab_size
    from ..assembly.plan import plan as make
    from ..assembly.recipe import load_recipe
    from ..memory.chips import find_mac

    loaded = load_recipe(recipe, set or [])
    prediction = make(loaded, draft_model(loaded), find_mac(chip) if chip else None)
    notes = list(prediction.account.notes)
    if recipe_vocab_size(loaded) is None:
        notes.append("The vocabulary size is unknown before the text is read; 256 is assumed.")
    if as_json:
        print(json.dumps(_facts(prediction, notes), indent=2))
    else:
        _print(prediction, notes)


def _print(found: "Plan", notes: list[str]) -> None:
    from ..assembly.plan import size

    rows = [(name, size(n * found.factor)) for name, n in found.account.parts.items()]
    rows.append(("peak", size(found.peak)))
    print_table(("part", "bytes"), rows, right=[1], gaps=[len(rows) - 1])
    where = found.mac.name if found.mac else "this machine"
    print(f"\n{size(found.peak)} at the peak; the budget on {where} is {size(found.budget)}.")
    for line in [*_verdict(found), *_chosen(found), *_paging(found), *_speed(found), *notes]:
        print(line)


def _verdict(found: "Plan") -> list[str]:
    lines = []
    if found.factor != 1.0:
        lines.append(f"Corrected by {found.factor:.2f}, the measured share of earlier runs here.")
    if found.peak > found.budget:
        lines.append(f"It does not fit. {found.advice()}")
    if not found.job.cpu:
        lines.append("Not yet calibrated on Metal: the first run on this Mac corrects it.")
    return lines


def _chosen(found: "Plan") -> list[str]:
    from ..assembly.plan import size

    job = found.job
    blocks = ", ".join(map(str, sorted(job.recomputed))) or "none"
    return [
        f"Gradient accumulation: {job.accumulate} × {job.batch_size} sequences; loss in chunks of "
        f"{job.chunk} tokens; checkpointed (recomputed) blocks: {blocks}.",
        f"Cache limit {size(found.cache)}"
        + ("." if job.cpu else f", wired limit {size(found.wired)}."),
    ]


def _paging(found: "Plan") -> list[str]:
    from ..assembly.plan import size

    if (paging := found.paging) is None or found.step_s is None:
        return []
    return [
        f"Optimizer state and gradients in a file of {size(paging.file_bytes)}, in pages of up to "
        f"{size(found.job.page_bytes or 0.0)}. A step reads and writes "
        f"{size(paging.step_bytes)}: {paging.seconds:.2g} s at "
        f"{'the measured' if paging.measured else 'an assumed'} {paging.bytes_per_s / 1e9:.2g} "
        f"GB/s, so that it takes at most {paging.slowdown(found.step_s):.2f} times as long."
    ]


def _speed(found: "Plan") -> list[str]:
    if found.speed is None or found.mac is None or found.hours is None:
        return []
    short, long = found.hours
    return [
        f"Estimate, not measured: {found.speed.least:,.0f} to {found.speed.most:,.0f} tokens/s on "
        f"{found.mac.name}, limited by {found.speed.limit}; {found.tokens:,} tokens take "
        f"{duration(short)} to {duration(long)}.",
        *_cost(found),
    ]


def _cost(found: "Plan") -> list[str]:
    if (bill := found.cost) is None:
        return []
    return [
        f"Estimate: {bill.text}, at {bill.power.watts:,.0f} W ({bill.power.source}). Your own "
        "factors: --set cost.watts, cost.price_per_kwh, cost.co2_g_per_kwh."
    ]


def duration(hours: float) -> str:
    """Format a duration: "40 s", "12 min", "3.5 h", "4.2 days"."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _facts(found: "Plan", notes: list[str]) -> dict[str, Any]:
    facts = found.facts() | {"notes": notes}
    if found.peak > found.budget:
        facts["advice"] = found.advice()
    if found.mac is not None and found.speed is not None:
        chip = asdict(found.mac.chip) | {"memory_gb": found.mac.memory_gb}
        facts["estimate"] = {"chip": chip, **asdict(found.speed)}
        facts["estimate"]["hours"] = found.hours
    return facts
