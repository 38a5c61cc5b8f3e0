"""The plan of a recipe: what its step will need, whether it fits, and how fast it could be."""

from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from ..core.device import GIB, memory_bytes, working_set_bytes
from ..core.errors import RecipeError, RunError
from ..data.kinds import Columns
from ..distributed.zero import pick, shares
from ..layers.counts import flops_per_token
from ..memory.account import Account, account
from ..memory.budget import METAL_SHARE, SHARE, budget_bytes, cache_bytes, free_bytes, wired_bytes
from ..memory.chips import GB, Mac, find_mac
from ..memory.fit import LARGEST_CHUNK, choose, least
from ..memory.job import Job
from ..memory.record import correction, device_key
from ..memory.roofline import Speed, speed
from ..models.stack import recompute_layers, recomputed_layers
from ..runs.folder import find_checkpoint
from .recipe import Recipe

AUTO = "auto"


@dataclass(frozen=True)
class Plan:
    """What a run is predicted to need, and what there is.

    Attributes:
        account: bytes by part, before correction.
        factor: what earlier runs on this device say a prediction is multiplied by.
        budget, limit: bytes that a run should take, and that it can't do without.
        mac: the Mac that it is made for, where it is known.
        speed: estimated tokens per second on that Mac.
        tokens: of the whole recipe.
        cache, wired: bytes of freed memory that are kept, and of memory that Metal keeps resident.
    """

    job: Job
    account: Account
    factor: float
    budget: float
    limit: float
    mac: Mac | None
    speed: Speed | None
    tokens: int
    cache: float
    wired: float

    @property
    def peak(self) -> float:
        """Predicted peak in bytes."""
        return self.account.peak * self.factor

    @property
    def sentence(self) -> str:
        """The plan in one line."""
        return (
            f"Plan: {size(self.peak)} at the peak ({self.account.phase}), "
            f"{self.peak / self.budget:.0%} of the budget of {size(self.budget)}."
        )

    def facts(self) -> dict[str, Any]:
        """The plan as JSON can hold it; a run keeps it as plan.json."""
        return {
            "peak_bytes": round(self.peak),
            "budget_bytes": round(self.budget),
            "fits": self.peak <= self.budget,
            "parts_bytes": {k: round(v * self.factor) for k, v in self.account.parts.items()},
            "phases_bytes": {k: round(v * self.factor) for k, v in self.account.phases.items()},
            "correction": self.factor,
            "cache_limit_bytes": round(self.cache),
            "wired_limit_bytes": None if self.job.cpu else round(self.wired),
            "batch_size": self.job.batch_size,
            "accumulate": self.job.accumulate,
            "chunk": self.job.chunk,
            "recompute": sorted(self.job.recomputed),
            "tokens": self.tokens,
        }

    def advice(self) -> str:
        """What would make it fit, in a sentence."""
        return advice(self.job, self.budget, self.factor)


def job(
    recipe: Recipe, model: Any, cpu: bool | None = None, ranks: int = 1, sharers: int = 1
) -> Job:
    """The sizes of a recipe's training step.

    Args:
        recipe: what is to be trained; "auto" counts as the fastest choice.
        model: its model, which may be lazy: it isn't computed.
        cpu: whether it will run on a CPU; None means as here.
        ranks: processes that share the rows.
        sharers: processes that share the layers, of which `model` is one's part.
    """
    config = recipe.train
    optimizer = recipe.optim.split(model, config.steps)  # type: ignore[attr-defined]
    parameters = model.trainable_parameters()
    if config.shard_optimizer:
        parameters = pick(parameters, shares(parameters, ranks)[0])
    optimizer.init(parameters)
    chunk = getattr(recipe.objective, "chunk", LARGEST_CHUNK)
    rows, accumulate = config.divided
    return Job(
        config=recipe.model,
        model=model,
        state=optimizer.state,
        vocab_size=model.vocab_size,
        batch_size=max(1, rows // ranks),
        columns=columns(recipe),
        accumulate=accumulate,
        dtype=config.dtype,
        recomputed=recomputed_layers(model),
        chunk=LARGEST_CHUNK if chunk == AUTO else chunk,
        ema=config.ema is not None,
        cpu=mx.default_device() == mx.cpu if cpu is None else cpu,
        taught_by=taught_by(recipe),
        sharers=sharers,
    )


def columns(recipe: Recipe) -> Columns:
    """How long the rows of a recipe's batches are."""
    batch: Any = recipe.data.batch
    found: Columns = batch.columns(recipe.train.seq_len)
    return replace(found, masked=True) if recipe.data.mask_documents else found


def taught_by(recipe: Recipe) -> float | None:
    """Bytes of the models that a recipe's objective reads: as much as their checkpoints hold.

    None where one can't be found.
    """
    runs: dict[str, str] = getattr(recipe.objective, "frozen", dict)()
    try:
        files = [find_checkpoint(run)[1] / "model.safetensors" for run in runs.values()]
        return float(sum(file.stat().st_size for file in files))
    except (RunError, OSError):
        return None


def plan(
    recipe: Recipe, model: Any, mac: Mac | None = None, ranks: int = 1, sharers: int = 1
) -> Plan:
    """The plan of a recipe for a Mac, or for this machine; `ranks` and `sharers` as in `job`.

    Raises:
        RunError: its "auto" keys can't make it fit.
    """
    recipe, wanted, factor, budget, limit = _settled(recipe, model, mac, ranks, sharers)
    found, config = account(wanted), recipe.train
    mac = mac or this_mac()
    tokens = config.batch_size * config.accumulate * config.seq_len
    estimate = (
        None
        if mac is None
        else speed(
            tokens=tokens,
            flops_per_token=flops_per_token(model, config.seq_len),
            weights=found.held["weights"],
            state=found.held["optimizer"],
            saved=sum(found.saved.values()),
            accumulate=config.accumulate,
            peak_flops=mac.chip.flops(config.dtype),
            bandwidth=mac.chip.bandwidth_gb_s * GB,
        )
    )
    peak = found.peak * factor
    cache = _given(config.cache_limit_gib, cache_bytes(peak, budget))
    wired = _given(config.wired_limit_gib, wired_bytes(peak, limit))
    total = tokens * config.steps
    return Plan(wanted, found, factor, budget, limit, mac, estimate, total, cache, wired)


def _given(gib: float | str, chosen: float) -> float:
    """Bytes that the recipe gives, or else what was chosen."""
    return chosen if isinstance(gib, str) else gib * GIB


def checked(plan: Plan) -> str:
    """The plan in a line, with a warning where it is over the budget.

    Raises:
        RunError: it needs more than there is.
    """
    if plan.peak > plan.limit:
        raise RunError(
            f"This run needs about {size(plan.peak)} at the peak, and there are "
            f"{size(plan.limit)}. {plan.advice()}"
        )
    if plan.peak > plan.budget:
        return f"{plan.sentence} It may be slow or fail. {plan.advice()}"
    return plan.sentence


def advice(job: Job, budget: float, factor: float) -> str:
    """What would make a job fit, in a sentence."""
    chosen = choose(job, budget, factor=factor)
    if chosen is None:
        return (
            "Nothing would make it fit: with one row at a time and every block recomputed it "
            f"takes {size(least(job, factor=factor))}. Take a smaller model or shorter rows."
        )
    sets = " ".join(f"--set '{each}'" for each in chosen.sets(job))
    return f"It would fit in {size(chosen.peak)} with {sets}."


def settle(recipe: Recipe, model: Any, ranks: int = 1) -> Recipe:
    """The recipe with "auto" replaced by what fits and costs the least time, here, and its
    microbatches as batch_size and accumulate; sets the model's recomputed blocks.

    Raises:
        RunError: nothing fits, or several processes would choose each for itself.
    """
    if not _free(recipe):
        return _divided(recipe, *recipe.train.divided)
    if ranks > 1:
        raise RunError(
            "'auto' asks each machine for its own memory, and processes that train together must "
            "agree. Give train.microbatch, train.recompute and objective.chunk values; "
            "`mlxt plan` names some."
        )
    settled, wanted, *_ = _settled(recipe, model, None, ranks)
    recompute_layers(model, wanted.recomputed)
    return settled


def this_mac() -> Mac | None:
    """The Mac that this is, if it is one that `chips` knows."""
    if not mx.metal.is_available():
        return None
    name = str(mx.device_info().get("device_name", ""))
    try:
        return Mac(find_mac(name).chip, round(memory_bytes() / 2**30))
    except RecipeError:
        return None


def size(bytes: float) -> str:
    """ "445 MiB", "1.23 GiB"."""
    return f"{bytes / 2**20:,.0f} MiB" if bytes < 2**30 else f"{bytes / 2**30:,.2f} GiB"


def _free(recipe: Recipe) -> frozenset[str]:
    """What the recipe leaves to the planner."""
    keys = {
        "recompute": recipe.train.recompute,
        "chunk": getattr(recipe.objective, "chunk", None),
        "batch": recipe.train.microbatch,
    }
    return frozenset(name for name, value in keys.items() if value == AUTO)


def _settled(
    recipe: Recipe, model: Any, mac: Mac | None, ranks: int, sharers: int = 1
) -> tuple[Recipe, Job, float, float, float]:
    """The recipe and its job without "auto"; correction, budget and limit."""
    if mac is None:
        factor = correction(device_key())
        cpu = mx.default_device() == mx.cpu
        budget, limit = budget_bytes(), float(free_bytes() if cpu else working_set_bytes())
    else:
        factor, limit, cpu = 1.0, METAL_SHARE * mac.memory_gb * 2**30, False
        budget = SHARE * limit
    wanted, free = job(recipe, model, cpu, ranks, sharers), _free(recipe)
    rows, accumulate = recipe.train.divided
    if free:
        chosen = choose(wanted, budget, free, factor)
        if chosen is None:
            raise RunError(
                f"No choice of {' and '.join(sorted(free))} fits the budget of {size(budget)}: the "
                f"smallest takes {size(least(wanted, free, factor))}. "
                f"{advice(wanted, budget, factor)}"
            )
        wanted = chosen.job
        recipe = _with(recipe, wanted, free)
        if "batch" in free:
            rows, accumulate = wanted.batch_size * ranks, wanted.accumulate
    return _divided(recipe, rows, accumulate), wanted, factor, budget, limit


def _with(recipe: Recipe, wanted: Job, free: frozenset[str]) -> Recipe:
    """The recipe with the choices of the job; the tables that it was read from stay as they are."""
    train: dict[str, Any] = {}
    if "recompute" in free:
        train["recompute"] = sorted(wanted.recomputed) or "none"
    changes: dict[str, Any] = {"train": recipe.train.model_copy(update=train)}
    if "chunk" in free:
        changes["objective"] = recipe.objective.model_copy(update={"chunk": wanted.chunk})
    return recipe.model_copy(update=changes)


def _divided(recipe: Recipe, rows: int, accumulate: int) -> Recipe:
    """The recipe whose batches are microbatches of `rows`; evaluation sees as many rows as before.

    A recipe that is divided so already is returned as it is.
    """
    config, measured = recipe.train, recipe.eval
    if config.microbatch == "given":
        return recipe
    train = {"batch_size": rows, "accumulate": accumulate, "microbatch": "given"}
    changes: dict[str, Any] = {"train": config.model_copy(update=train)}
    if measured.batches is not None and measured.batch_size is None:
        batches = -(-measured.batches * config.batch_size // rows)
        changes["eval"] = measured.model_copy(update={"batches": batches})
    return recipe.model_copy(update=changes)
