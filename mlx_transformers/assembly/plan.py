"""Plans a recipe: the peak memory of its training step, whether it fits, and its speed on a Mac."""

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import mlx.core as mx

from ..core.cpu_streams import asked
from ..core.device import GIB, matmul_flops, memory_bytes, working_set_bytes
from ..core.errors import RecipeError, RunError
from ..core.paths import expanded
from ..core.tree import size_bytes
from ..layers.counts import flops_per_token
from ..memory.account import Account, account
from ..memory.budget import METAL_SHARE, SHARE, budget_bytes, cache_bytes, free_bytes, wired_bytes
from ..memory.chips import GB, Mac, find_mac
from ..memory.cost import Bill
from ..memory.disk import Paging, paging
from ..memory.fit import choose, least
from ..memory.job import Job
from ..memory.record import correction, run_key
from ..memory.roofline import Speed, speed
from ..models.model import Model, ModelKind, recompute_layers
from ..runs.folder import RUNS
from ..trainer.config import Train
from .job import chunk_of, job
from .parallel import parallel_rows
from .recipe import Recipe

AUTO = "auto"


@dataclass(frozen=True)
class Plan:
    """Predicted memory and speed of a run, and the memory available to it.

    Attributes:
        job: the sizes that the prediction is made from.
        account: bytes by part, before correction.
        factor: correction of predictions, from the measured peaks of earlier runs on this device.
        budget: bytes that the run should stay below.
        limit: bytes that exist; a run that needs more cannot start.
        mac: the Mac that the plan is for, if its chip is known.
        speed: estimated tokens per second on that Mac.
        tokens: training tokens of the whole run.
        hours: shortest and longest time of the run on that Mac; the longest waits for the file of
            `paging`.
        cache: limit of MLX's cache of freed memory, in bytes.
        wired: limit of the memory that Metal keeps wired, in bytes.
        paging: reading and writing of optimizer state in a file; None where it is in memory.
        cost: what its energy costs; None where its time or the power is not known.
        step_s: shortest time of a step with its state in memory, at the peak of arithmetic; None
            where `paging` is.
    """

    job: Job
    account: Account
    factor: float
    budget: float
    limit: float
    mac: Mac | None
    speed: Speed | None
    tokens: int
    hours: tuple[float, float] | None
    cache: float
    wired: float
    paging: Paging | None = None
    step_s: float | None = None
    cost: Bill | None = None

    @property
    def peak(self) -> float:
        """Predicted peak in bytes."""
        return self.account.peak * self.factor

    @property
    def sentence(self) -> str:
        """The plan in one sentence."""
        return (
            f"Plan: {size(self.peak)} at the peak ({self.account.phase}), "
            f"{self.peak / self.budget:.0%} of the budget of {size(self.budget)}."
        )

    def facts(self) -> dict[str, Any]:
        """The content of the run's plan.json."""
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
            "cpu_streams": self.job.parts,
            "tokens": self.tokens,
            "paging": self._paging_facts(),
            "cost": self.cost and asdict(self.cost),
        }

    def _paging_facts(self) -> dict[str, Any] | None:
        if self.paging is None:
            return None
        slowdown = None if self.step_s is None else self.paging.slowdown(self.step_s)
        return asdict(self.paging) | {
            "page_bytes": self.job.page_bytes,
            "seconds_per_step": self.paging.seconds,
            "slowdown_at_most": slowdown,
        }

    def advice(self) -> str:
        """Suggest `--set` options that make the run fit, in a sentence."""
        return advice(self.job, self.budget, self.factor)


def plan(
    recipe: Recipe, model: Model, mac: Mac | None = None, ranks: int = 1, tensor_parallel: int = 1
) -> Plan:
    """Plan a recipe for `mac`, or for this machine; the other arguments are as in `job`.

    Raises:
        RunError: no choice for its "auto" keys fits.
    """
    memory, this_machine = available_memory(mac, recipe.model), mac is None
    recipe, sized = _resolve(recipe, model, memory, ranks, tensor_parallel)
    needs, config = account(sized), recipe.train
    paged = None if sized.page_bytes is None else _paging(sized, config, mac)
    mac = mac or this_mac()
    tokens = config.batch_size * config.accumulate * config.seq_len
    estimate = (
        None
        if mac is None
        else speed(
            tokens=tokens,
            flops_per_token=flops_per_token(model, config.seq_len),
            weights=needs.held["weights"],
            state=needs.held["optimizer"],
            saved=sum(needs.saved.values()),
            accumulate=config.accumulate,
            peak_flops=mac.chip.flops(config.dtype),
            bandwidth=mac.chip.bandwidth_gb_s * GB,
        )
    )
    if paged is None:
        step_s = None
    elif estimate is not None:
        step_s = tokens / estimate.most
    else:
        flops = tokens * flops_per_token(model, config.seq_len)
        step_s = flops / matmul_flops(getattr(mx, config.dtype))
    peak, n_tokens = needs.peak * memory.factor, config.tokens
    hours = None
    if estimate is not None:
        short, long = estimate.hours(n_tokens)
        hours = (short, long + (config.steps * paged.seconds / 3600 if paged else 0.0))
    return Plan(
        job=sized,
        account=needs,
        factor=memory.factor,
        budget=memory.budget,
        limit=memory.limit,
        mac=mac,
        speed=estimate,
        tokens=n_tokens,
        hours=hours,
        cache=_limit_bytes(config.cache_limit_gib, cache_bytes(peak, memory.budget)),
        wired=_limit_bytes(config.wired_limit_gib, wired_bytes(peak, memory.limit)),
        paging=paged,
        step_s=step_s,
        cost=None if hours is None else recipe.cost.bill(mac, this_machine, hours),
    )


def _paging(job: Job, config: Train, mac: Mac | None) -> Paging:
    """The paging of a job's state and gradients, on the SSD of a Mac or on this machine's disk."""
    place = config.offload_optimizer
    folder = expanded(place) if isinstance(place, str) else RUNS
    state, gradients = size_bytes(job.state), size_bytes(job.model.trainable_parameters())
    return paging(state, gradients, job.accumulate, folder if mac is None else None)


def _limit_bytes(gib: float | str, chosen: float) -> float:
    """The limit of the recipe in bytes; `chosen` where the recipe says "auto"."""
    return chosen if isinstance(gib, str) else gib * GIB


def check_fits(plan: Plan) -> str:
    """Check a plan against the machine; returns its sentence, with a warning above the budget.

    Raises:
        RunError: the run needs more memory than there is.
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
    """Suggest `--set` options that make a job fit into `budget` bytes, in a sentence."""
    chosen = choose(job, budget, factor=factor)
    if chosen is None:
        return (
            "Nothing would make it fit: with one row at a time and every block recomputed it "
            f"takes {size(least(job, factor=factor))}. Take a smaller model or shorter rows."
        )
    sets = " ".join(f"--set '{override}'" for override in chosen.sets(job))
    return f"It would fit in {size(chosen.peak)} with {sets}."


class Settled(NamedTuple):
    """A recipe without "auto", and the CPU streams that share its rows."""

    recipe: Recipe
    streams: int


def resolve_auto(recipe: Recipe, model: Model, ranks: int = 1) -> Settled:
    """Replace "auto" in a recipe by the fastest choice that fits this machine, and choose its CPU
    streams.

    The microbatches become `batch_size` and `accumulate`; the blocks of `model` that are to be
    recomputed are marked.

    Raises:
        RunError: nothing fits, or several processes would each choose for themselves.
    """
    wanted = parallel_rows(recipe, ranks).wanted
    if auto_keys(recipe) and ranks > 1:
        raise RunError(
            "'auto' asks each machine for its own memory, and processes that train together must "
            "agree. Give train.microbatch, train.recompute and objective.chunk values; "
            "`mlxt plan` names some."
        )
    if not auto_keys(recipe) and (wanted == 1 or asked() is not None):
        return Settled(_with_microbatches(recipe, *recipe.train.divided), wanted)
    resolved = _resolve(recipe, model, available_memory(None, recipe.model), ranks)
    recompute_layers(model, resolved.job.recomputed)
    return Settled(resolved.recipe, resolved.job.streams)


def this_mac() -> Mac | None:
    """Identify this Mac, if it is one whose chip `memory.chips` lists."""
    if not mx.metal.is_available():
        return None
    name = str(mx.device_info().get("device_name", ""))
    try:
        return Mac(find_mac(name).chip, round(memory_bytes() / 2**30))
    except RecipeError:
        return None


def size(n_bytes: float) -> str:
    """Format a number of bytes: "445 MiB", "1.23 GiB"."""
    return f"{n_bytes / 2**20:,.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:,.2f} GiB"


def auto_keys(recipe: Recipe) -> frozenset[str]:
    """The choices that a recipe leaves to the planner: "recompute", "chunk", "batch"."""
    keys = {
        "recompute": recipe.train.recompute,
        "chunk": chunk_of(recipe),
        "batch": recipe.train.microbatch,
    }
    return frozenset(name for name, value in keys.items() if value == AUTO)


class Memory(NamedTuple):
    """Memory of a machine: `budget` and `limit` in bytes, and `factor`, as in `Plan`."""

    factor: float
    budget: float
    limit: float
    cpu: bool


def available_memory(mac: Mac | None, model: ModelKind) -> Memory:
    """The memory of a Mac, or of this machine, whose earlier runs of such models give the
    correction."""
    if mac is not None:
        limit = METAL_SHARE * mac.memory_gb * 2**30
        return Memory(1.0, SHARE * limit, limit, cpu=False)
    cpu = mx.default_device() == mx.cpu
    limit = float(free_bytes() if cpu else working_set_bytes())
    return Memory(correction(run_key(model)), budget_bytes(), limit, cpu)


class Resolved(NamedTuple):
    """A recipe without "auto", and the sizes of its step."""

    recipe: Recipe
    job: Job


def _resolve(
    recipe: Recipe, model: Model, memory: Memory, ranks: int, tensor_parallel: int = 1
) -> Resolved:
    """Choose values for "auto" that fit the budget at the least cost in time.

    Where nothing fits in as many CPU streams as wanted, one computes whole batches, unless a user
    named their number.

    Raises:
        RunError: nothing fits.
    """
    sized, free = job(recipe, model, memory.cpu, ranks, tensor_parallel), auto_keys(recipe)
    chosen = choose(sized, memory.budget, free, memory.factor)
    if chosen is None and asked() is None and sized.streams > 1:
        sized = replace(sized, streams=1)
        chosen = choose(sized, memory.budget, free, memory.factor)
    rows, accumulate = recipe.train.divided
    if free:
        if chosen is None:
            raise RunError(
                f"No choice of {' and '.join(sorted(free))} fits the budget of "
                f"{size(memory.budget)}: the smallest takes "
                f"{size(least(sized, free, memory.factor))}. "
                f"{advice(sized, memory.budget, memory.factor)}"
            )
        sized = chosen.job
        recipe = _with_choices(recipe, sized, free)
        if "batch" in free:
            rows, accumulate = sized.batch_size * ranks, sized.accumulate
    return Resolved(_with_microbatches(recipe, rows, accumulate), sized)


def _with_choices(recipe: Recipe, chosen: Job, free: frozenset[str]) -> Recipe:
    """Copy the recipe with the values of a job for the keys in `free`.

    `recipe.resolved`, from which the run's recipe.toml is written, keeps "auto".
    """
    train: dict[str, Any] = {}
    if "recompute" in free:
        train["recompute"] = sorted(chosen.recomputed) or "none"
    changes: dict[str, Any] = {"train": recipe.train.model_copy(update=train)}
    if "chunk" in free:
        changes["objective"] = recipe.objective.model_copy(update={"chunk": chosen.chunk})
    return recipe.model_copy(update=changes)


def _with_microbatches(recipe: Recipe, rows: int, accumulate: int) -> Recipe:
    """Copy the recipe with microbatches of `rows`; evaluation keeps its number of rows.

    A recipe whose `microbatch` is "given" is returned as it is.
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
