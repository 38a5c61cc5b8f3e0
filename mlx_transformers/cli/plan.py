"""`mlxt plan`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, BatchSize, DataPath, Recipe, Sets, note_unread, spelled
from .terminal import print_table

if TYPE_CHECKING:
    from ..assembly.plan import Plan
    from ..assembly.recipe import Recipe as LoadedRecipe


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
    batch_size: BatchSize = None,
    data: DataPath = None,
    as_json: AsJson = False,
) -> None:
    """Predict the memory and the speed of a recipe's training, before it starts."""
    from ..assembly.model import draft_model, recipe_vocab_size
    from ..assembly.plan import plan as make
    from ..assembly.recipe import load_recipe
    from ..memory.chips import find_mac

    loaded = load_recipe(recipe, spelled(set, batch_size=batch_size, data=data))
    note_unread(set, unread=("eval.", "checkpoint.every", "checkpoint.keep", "log."))
    prediction = make(loaded, draft_model(loaded), None if chip is None else find_mac(chip))
    notes = [*prediction.account.notes, *missing_data(loaded)]
    if recipe_vocab_size(loaded) is None:
        notes.append("The vocabulary size is unknown before the text is read; 256 is assumed.")
    if as_json:
        print(json.dumps(_facts(prediction, notes), indent=2))
    else:
        _print(prediction, notes)


def missing_data(recipe: "LoadedRecipe") -> list[str]:
    """Name the texts and runs that training would read and that are missing; a plan needs none."""
    from ..assembly.run_data import check_frozen
    from ..core.errors import MlxtError
    from ..data.data_key import DataKey

    def check_text(recipe: "LoadedRecipe") -> None:
        for data in (recipe.data, *map(recipe.data.of, recipe.data.mixture)):
            DataKey(data)

    notes = []
    for check in (check_text, check_frozen):
        try:
            check(recipe)
        except MlxtError as error:
            notes.append(f"{error} This plan doesn't need it, mlxt train does.")
    return notes


def _print(prediction: "Plan", notes: list[str]) -> None:
    from ..assembly.plan import size

    rows = [(name, size(n * prediction.factor)) for name, n in prediction.account.parts.items()]
    rows.append(("peak", size(prediction.peak)))
    print_table(("part", "bytes"), rows, right=[1], gaps=[len(rows) - 1])
    where = prediction.mac.name if prediction.mac else "this machine"
    print(
        f"\n{size(prediction.peak)} at the peak; the budget on {where} is "
        f"{size(prediction.budget)}."
    )
    for line in [
        *_verdict(prediction),
        *_chosen(prediction),
        *_paging(prediction),
        *_speed(prediction),
        *notes,
    ]:
        print(line)


def _verdict(prediction: "Plan") -> list[str]:
    lines = []
    if prediction.factor != 1.0:
        lines.append(
            f"Corrected by {prediction.factor:.2f}, the measured share of earlier runs here."
        )
    if prediction.peak > prediction.budget:
        lines.append(f"It does not fit. {prediction.advice()}")
    if not prediction.job.cpu:
        lines.append("Not yet calibrated on Metal: the first run on this Mac corrects it.")
    return lines


def _chosen(prediction: "Plan") -> list[str]:
    from ..assembly.plan import size

    job = prediction.job
    blocks = ", ".join(map(str, sorted(job.recomputed))) or "none"
    return [
        f"Gradient accumulation: {job.accumulate} × {job.batch_size} sequences; loss in chunks of "
        f"{job.chunk} tokens; checkpointed (recomputed) blocks: {blocks}.",
        f"Cache limit {size(prediction.cache)}"
        + ("." if job.cpu else f", wired limit {size(prediction.wired)}."),
    ]


def _paging(prediction: "Plan") -> list[str]:
    from ..assembly.plan import size

    if (paging := prediction.paging) is None or prediction.step_s is None:
        return []
    return [
        f"Optimizer state and gradients in a file of {size(paging.file_bytes)}, in pages of up to "
        f"{size(prediction.job.page_bytes or 0.0)}. A step reads and writes "
        f"{size(paging.step_bytes)}: {paging.seconds:.2g} s at "
        f"{'the measured' if paging.measured else 'an assumed'} {paging.bytes_per_s / 1e9:.2g} "
        f"GB/s, so that it takes at most {paging.slowdown(prediction.step_s):.2f} times as long."
    ]


def _speed(prediction: "Plan") -> list[str]:
    if prediction.speed is None or prediction.mac is None or prediction.hours is None:
        return []
    short, long = prediction.hours
    return [
        f"Estimate, not measured: {prediction.speed.least:,.0f} to {prediction.speed.most:,.0f} "
        f"tokens/s on {prediction.mac.name}, limited by {prediction.speed.limit}; "
        f"{prediction.tokens:,} tokens take {duration(short)} to {duration(long)}.",
        *_cost(prediction),
    ]


def _cost(prediction: "Plan") -> list[str]:
    if (bill := prediction.cost) is None:
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


def _facts(prediction: "Plan", notes: list[str]) -> dict[str, Any]:
    facts = prediction.facts() | {"notes": notes}
    if prediction.peak > prediction.budget:
        facts["advice"] = prediction.advice()
    if prediction.mac is not None and prediction.speed is not None:
        chip = asdict(prediction.mac.chip) | {"memory_gb": prediction.mac.memory_gb}
        facts["estimate"] = {"chip": chip, **asdict(prediction.speed)}
        facts["estimate"]["hours"] = prediction.hours
    return facts
