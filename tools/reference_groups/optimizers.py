"""Group 8: optimizers on given gradients, and learning-rate schedules."""

import re
from typing import Any

import mlx.core as mx
import mlx.optimizers as mlx_optim

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.errors import RecipeError
from mlx_transformers.optim.adafactor import Adafactor
from mlx_transformers.optim.adam import Adam, AdamW
from mlx_transformers.optim.kinds import ScheduleKind
from mlx_transformers.optim.lamb import Lamb
from mlx_transformers.optim.lion import Lion
from mlx_transformers.optim.muon import NEWTON_SCHULZ, Muon, orthogonalize
from mlx_transformers.optim.optimizer import DecayingOptimizer, Optimizer
from mlx_transformers.optim.periodic import update_hessian
from mlx_transformers.optim.schedule_free import ScheduleFree
from mlx_transformers.optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    Steps,
    Wsd,
)
from mlx_transformers.optim.sgd import Sgd
from mlx_transformers.optim.shampoo import Shampoo, Soap
from mlx_transformers.optim.sophia import SophiaG, SophiaH
from reference_groups.case import Arrays, Case, Rule

Options = dict[str, Any]

NO_EFFECT = frozenset({"foreach", "fused", "capturable", "differentiable", "use_triton", "seed"})
"""Options that choose how the published code computes, and not what."""


def taken(options: Options, *names: str) -> Options:
    """Refuse the options that a rule doesn't know, unless they are off; return the others."""
    known = {*names, *NO_EFFECT}
    for name, value in options.items():
        if name not in known and value not in (None, False, 0, 0.0):
            raise RecipeError(f"the option {name} = {value!r} has no counterpart here")
    return options


def trajectory(kind: Optimizer, case: Case, every: int = 1, scale: float = 1.0) -> Arrays:
    """The parameters after every step; `h.*` of the case are estimates of the curvature, one each
    `every` steps, squared for the labels' and times `scale`."""
    params = {k[2:]: v for k, v in case.inputs.items() if k.startswith("p.")}
    grads = {k[2:]: v for k, v in case.inputs.items() if k.startswith("g.")}
    estimates = {k[2:]: v for k, v in case.inputs.items() if k.startswith("h.")}
    peak = kind.learning_rate
    rate = kind.rate(1) if peak is None else kind.schedule.build(peak, 1)
    sign = -1.0 if case.options.get("maximize") else 1.0
    optimizer: mlx_optim.Optimizer = kind.group(
        rate, kind.weight_decay if isinstance(kind, DecayingOptimizer) else 0.0
    )
    optimizer.init(params)
    found: dict[str, list[mx.array]] = {name: [] for name in params}
    for t in range(len(next(iter(grads.values())))):
        if estimates and t % every == 0:
            given = {name: h[t // every] for name, h in estimates.items()}
            if isinstance(kind, SophiaG):
                given = {name: scale * mx.square(h) for name, h in given.items()}
            update_hessian(optimizer, given)
        params = optimizer.apply_gradients({k: sign * g[t] for k, g in grads.items()}, params)
        mx.eval(params, optimizer.state)
        for name, value in params.items():
            found[name].append(value)
    return {f"p.{name}": mx.stack(values) for name, values in found.items()}


def adamw(case: Case) -> Arrays:
    """torch's and transformers' AdamW."""
    o = taken(case.options, "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize",
              "decoupled_weight_decay")  # fmt: skip
    kind = AdamW(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.9, 0.999))),
                 eps=o.get("eps", 1e-8), weight_decay=o.get("weight_decay", 1e-2),
                 amsgrad=bool(o.get("amsgrad")))  # fmt: skip
    return trajectory(kind, case)


def adam(case: Case) -> Arrays:
    """torch's Adam, whose decay is an L2 penalty unless it is decoupled."""
    if case.options.get("decoupled_weight_decay"):
        return adamw(case)
    o = taken(case.options, "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
    kind = Adam(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.9, 0.999))),
                eps=o.get("eps", 1e-8), weight_decay=o.get("weight_decay", 0.0),
                amsgrad=bool(o.get("amsgrad")))  # fmt: skip
    return trajectory(kind, case)


def sgd(case: Case) -> Arrays:
    """torch's SGD."""
    o = taken(case.options, "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
    kind = Sgd(learning_rate=o["lr"], momentum=o.get("momentum", 0.0),
               dampening=o.get("dampening", 0.0), weight_decay=o.get("weight_decay", 0.0),
               nesterov=bool(o.get("nesterov")))  # fmt: skip
    return trajectory(kind, case)


def adafactor(case: Case) -> Arrays:
    """transformers' Adafactor."""
    o = taken(case.options, "lr", "eps", "clip_threshold", "decay_rate", "beta1", "weight_decay",
              "scale_parameter", "relative_step", "warmup_init")  # fmt: skip
    kind = Adafactor(
        learning_rate=None if o.get("relative_step", True) else o["lr"],
        eps=tuple(o.get("eps", (1e-30, 1e-3))),
        clip_threshold=o.get("clip_threshold", 1.0),
        decay_rate=-o.get("decay_rate", -0.8),
        beta1=o.get("beta1"),
        weight_decay=o.get("weight_decay", 0.0),
        scale_parameter=o.get("scale_parameter", True),
        warmup_init=o.get("warmup_init", False),
    )
    return trajectory(kind, case)


def lamb(case: Case) -> Arrays:
    """LAMB as of pytorch-lamb, whose option `adam` leaves the trust ratio out.

    If no option says whether the moments are corrected, the formula does, by a power of t.
    """
    powers = re.search(r"(\^|\*\*) *t\b", case.meta.get("formula", "")) is not None
    o = taken(case.options, "lr", "betas", "eps", "weight_decay", "adam", "bias_correction",
              "debias", "clamp_value")  # fmt: skip
    kind = Lamb(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.9, 0.999))),
                eps=o.get("eps", 1e-6), weight_decay=o.get("weight_decay", 0.0),
                bias_correction=bool(o.get("bias_correction", o.get("debias", powers))),
                largest_norm=o.get("clamp_value", 10.0), trust=not o.get("adam"))  # fmt: skip
    return trajectory(kind, case)


def lion(case: Case) -> Arrays:
    """lion-pytorch; decoupled decay is divided by the first learning rate."""
    o = taken(case.options, "lr", "betas", "weight_decay", "decoupled_weight_decay")
    decay = o.get("weight_decay", 0.0)
    if o.get("decoupled_weight_decay"):
        decay /= o["lr"]
    kind = Lion(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.9, 0.99))), weight_decay=0.0)
    return trajectory(kind.model_copy(update={"weight_decay": decay}), case)


def muon(case: Case) -> Arrays:
    """KellerJordan's Muon and torch's, whose `match_rms_adamw` is the scale `rms`."""
    o = taken(case.options, "lr", "weight_decay", "momentum", "nesterov", "ns_steps", "eps",
              "ns_coefficients", "adjust_lr_fn")  # fmt: skip
    scale = "rms" if o.get("adjust_lr_fn") == "match_rms_adamw" else "spectral"
    kind = Muon(learning_rate=o.get("lr", 0.02), momentum=o.get("momentum", 0.95),
                weight_decay=o.get("weight_decay", 0.0), nesterov=o.get("nesterov", True),
                iterations=o.get("ns_steps", 5),
                coefficients=tuple(o.get("ns_coefficients", NEWTON_SCHULZ)),
                scale=scale)  # fmt: skip
    return trajectory(kind, case)


def newton_schulz(case: Case) -> Arrays:
    """The iteration alone, X0 of G0 and so on."""
    o = taken(case.options, "steps", "ns_steps", "coefficients", "ns_coefficients", "eps")
    steps = o.get("steps", o.get("ns_steps", 5))
    coefficients = tuple(o.get("coefficients", o.get("ns_coefficients", NEWTON_SCHULZ)))
    return {
        name.replace("G", "X"): orthogonalize(g, steps, coefficients)
        for name, g in case.inputs.items()
    }


def shampoo(case: Case) -> Arrays:
    """Shampoo with roots in every update."""
    o = taken(case.options, "lr", "eps", "momentum", "weight_decay")
    kind = Shampoo(learning_rate=o["lr"], eps=o.get("eps", 1e-4), momentum=o.get("momentum", 0.0),
                   weight_decay=o.get("weight_decay", 0.0))  # fmt: skip
    return trajectory(kind, case)


def soap(case: Case) -> Arrays:
    """SOAP between two moves of the bases."""
    o = taken(case.options, "lr", "betas", "eps", "weight_decay", "shampoo_beta",
              "precondition_frequency")  # fmt: skip
    kind = Soap(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.95, 0.95))),
                eps=o.get("eps", 1e-8), weight_decay=o.get("weight_decay", 0.0),
                factor_decay=o.get("shampoo_beta", 0.95))  # fmt: skip
    return trajectory(kind, case)


def schedule_free(case: Case) -> Arrays:
    """AdamWScheduleFree: the points y."""
    o = taken(case.options, "lr", "betas", "eps", "weight_decay", "r", "weight_lr_power",
              "warmup_steps")  # fmt: skip
    kind = ScheduleFree(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.9, 0.999))),
                        eps=o.get("eps", 1e-8), weight_decay=o.get("weight_decay", 0.0),
                        power=o.get("r", 0.0), rate_power=o.get("weight_lr_power", 2.0),
                        schedule=Constant(warmup=o.get("warmup_steps", 0)))  # fmt: skip
    return trajectory(kind, case)


def sophia_g(case: Case) -> Arrays:
    """SophiaG of the authors: the batch size stands beside rho."""
    o = taken(case.options, "lr", "betas", "rho", "weight_decay", "k", "bs", "maximize", "eps")
    kind = SophiaG(learning_rate=o["lr"], betas=tuple(o.get("betas", (0.965, 0.99))),
                   rho=o.get("rho", 0.04), weight_decay=o.get("weight_decay", 0.1),
                   eps=o.get("eps", 1e-15), every=o.get("k", 10))  # fmt: skip
    return trajectory(kind, case, kind.every, o.get("bs", 5120))


def sophia_h(case: Case) -> Arrays:
    """The paper's algorithm 3 with given estimates."""
    o = taken(case.options, "lr", "b1", "b2", "betas", "gamma", "eps", "wd", "weight_decay", "k")
    betas = tuple(o.get("betas", (o.get("b1", 0.96), o.get("b2", 0.99))))
    kind = SophiaH(learning_rate=o["lr"], betas=betas, gamma=o.get("gamma", 0.01),
                   weight_decay=o.get("wd", o.get("weight_decay", 0.0)),
                   eps=o.get("eps", 1e-12), every=o.get("k", 10))  # fmt: skip
    return trajectory(kind, case, kind.every)


def schedules(case: Case) -> Arrays:
    """The learning rates of every schedule that the case names, by step."""
    o, kinds = case.options, published(case.options)
    n = o["steps"]
    found = {}
    for name in case.names(*kinds):
        if name not in kinds:
            raise LookupError(f"no schedule is called {name!r}")
        kind, peak = kinds[name]
        rate = kind.build(peak, n)
        found[name] = mx.stack([rate(mx.array(t)) for t in range(n)])
    return found


def published(o: Options) -> dict[str, tuple[ScheduleKind, float]]:
    """The schedules of transformers and torch, and their peaks, for a case's options."""
    peak, w, n = o["base_lr"], o["warmup"], o["steps"]
    warm: Options = {"warmup": w, "warmup_from": 0.0}
    kinds: dict[str, tuple[ScheduleKind, float]] = {
        "constant": (Constant(), peak),
        "constant_with_warmup": (Constant(**warm), peak),
        "linear": (Linear(**warm), peak),
        "cosine": (Cosine(**warm), peak),
        "cosine_cycles": (Cosine(cycles=o["cosine_cycles"], **warm), peak),
        "cosine_min_lr": (Cosine(final_fraction=o["cosine_min_lr_rate"], **warm), peak),
        "cosine_hard_restarts": (CosineRestarts(cycles=o["restarts"], whole=False, **warm), peak),
        "polynomial": (
            Polynomial(final_fraction=o["lr_end"] / peak, power=o["power"], **warm), peak
        ),
        "inverse_sqrt": (
            InverseSqrt(timescale=o.get("inverse_sqrt_timescale") or w or 10_000, **warm), peak
        ),
        "noam": (InverseSqrt(warmup=w), (o["d_model"] * max(w, 1)) ** -0.5),
        "warm_restarts": (
            CosineRestarts(length=o["T_0"], growth=o["T_mult"],
                           final_fraction=o["warm_restarts_eta_min"] / peak), peak
        ),
        "exponential": (Exponential(factor=o["exponential"]), peak),
        "step": (Steps(every=o["step"][0], factor=o["step"][1]), peak),
        "multistep": (Steps(at=tuple(o["multistep"][0]), factor=o["multistep"][1]), peak),
    }  # fmt: skip
    annealing, wsd = o["cosine_annealing"], o["wsd"]
    kinds["cosine_annealing"] = (
        Cosine(cycles=n / (2 * annealing["T_max"]), final_fraction=annealing["eta_min"] / peak),
        peak,
    )
    for shape, ours in (("linear", "linear"), ("cosine", "cosine"), ("1-sqrt", "sqrt")):
        floor = wsd["min_lr_ratio"]
        kinds[f"wsd_{shape}"] = (
            Wsd(warmup=w, warmup_from=floor, stable=wsd["stable"], decay=wsd["decay"],
                final_fraction=floor, shape=ours), peak
        )  # fmt: skip
    for name in ("one_cycle", "one_cycle_linear"):
        if name in o:
            kinds[name] = (cycle(o[name], "linear" if "linear" in name else "cosine"),
                           o[name]["max_lr"])  # fmt: skip
    return kinds


def cycle(o: Options, shape: str) -> OneCycle:
    """torch's OneCycleLR."""
    start = 1.0 / o["div_factor"]
    strategy = {"cos": "cosine", "linear": "linear"}[o["anneal_strategy"]] if (
        "anneal_strategy" in o) else shape  # fmt: skip
    return OneCycle(rise_fraction=o["pct_start"], start_fraction=start,
                    final_fraction=start / o["final_div_factor"], shape=strategy,
                    three_phases=o.get("three_phase", False))  # fmt: skip


RULES = (
    Rule(r"lr_scheduler|get_\*|schedules? over", schedules),
    Rule(r"Adafactor", adafactor),
    Rule(r"ScheduleFree|schedule-free", schedule_free),
    Rule(r"SophiaG|Sophia-G", sophia_g),
    Rule(r"Sophia-H", sophia_h),
    Rule(r"\bSOAP\b", soap),
    Rule(r"Shampoo", shampoo),
    Rule(r"\bLAMB\b", lamb),
    Rule(r"\bLion\b", lion),
    Rule(r"Muon, zeropower|optim\.Muon|\bMuon \(|^(Single\w+)?Muon", muon),
    Rule(r"newton.?schulz", newton_schulz),
    Rule(r"AdamW", adamw),
    Rule(r"\bAdam\b", adam),
    Rule(r"\bSGD\b", sgd),
)
