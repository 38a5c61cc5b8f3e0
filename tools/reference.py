"""Compute reference cases of other people's layers with this project's layers and ops.

    python tools/reference.py CASE... --out DIR

A case is a folder: inputs.safetensors, perhaps params.safetensors, meta.json with the published
function, its options and the tolerance of each array, and expected.safetensors. The rule of
reference_groups/ whose pattern matches the published function computes the outputs; gradients are
of `loss`, the sum of outputs weighed by the inputs `cot.OUTPUT`. A case with a `form` in meta.json
holds variants of a function instead, and belongs to a rule of reference_adapt/. Arrays go to
DIR/CASE.safetensors under the names of the expected ones (`variant.output` where there are
variants), values that are no arrays to DIR/CASE.json, scores to DIR/scores.json. The exit code is 1
if a case fails.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import mlx_transformers.assembly.registry  # noqa: F401  (fills the slots, on the chosen backend)

# isort: split
import mlx.core as mx
import numpy as np
from reference_adapt import (
    adapters,
    chat,
    compression,
    distillation,
    json_form,
    losses,
    metrics,
    model_form,
    numeric,
    policy_losses,
    training,
)
from reference_groups import (
    depth,
    evoformer,
    experts,
    front_ends,
    gated,
    growth,
    long_filters,
    low_rank,
    optimizers,
    recurrences,
    retention,
    reversible,
    scaling,
    scans,
    sparse,
    state_space,
)
from reference_groups.case import Arrays, Case, Rule, read_arrays, write_arrays

RULES: dict[int, tuple[Rule, ...]] = {
    1: retention.RULES,
    2: (*sparse.RULES, *low_rank.RULES, *long_filters.RULES),
    3: (*state_space.RULES, *long_filters.RULES),
    4: (*gated.RULES, *scans.RULES, *recurrences.RULES, *long_filters.RULES),
    5: (*experts.RULES, *long_filters.RULES),
    6: depth.RULES,
    7: reversible.RULES,
    8: optimizers.RULES,
    9: scaling.RULES,
    10: growth.RULES,
    11: evoformer.RULES,
    12: front_ends.RULES,
}
"""The rules by the group that a case's meta.json names."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    scores = [run(case, args.out) for case in args.cases if (case / "meta.json").is_file()]
    (args.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    passed = sum(score["ok"] for score in scores)
    print(f"{passed} of {len(scores)} pass")
    sys.exit(passed < len(scores) or not scores)


def run(folder: Path, out: Path) -> dict[str, Any]:
    """Compute a case, write its arrays, print and return its score."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta.get("form") == "json":
            values = json_form.run(folder, meta, (*chat.RULES, *metrics.RULES))
            (out / f"{folder.name}.json").write_text(json.dumps(values) + "\n")
            return report(folder, json_form.score(folder, meta, values))
        if meta.get("form") in ("model", "training"):
            rules = (*model_form.RULES, *adapters.RULES, *training.RULES)
            got = model_form.run(folder, meta, rules)
            expected = read_arrays(folder / "expected.safetensors")
            result = model_form.score(meta, got, expected)
        elif "form" in meta:
            got = compute_variants(folder, meta)
            result = score_variants(meta, got, read_arrays(folder / "expected.safetensors"))
        else:
            case = Case.read(folder)
            got = compute(case)
            result = score(case.meta, got, read_arrays(folder / "expected.safetensors"))
        write_arrays(out / f"{folder.name}.safetensors", got)
    except Exception as error:  # one case that breaks must not hide the others
        result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return report(folder, result)


def report(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Print the score of a case, and return it with the case's name."""
    told = result.get("error") or ", ".join(result["wrong"] + result["missing"])
    print(f"{'ok  ' if result['ok'] else 'FAIL'} {folder.name}: {told}", flush=True)
    return {"case": folder.name, **result}


def compute(case: Case) -> Arrays:
    """The outputs of a case, its loss and gradients: those that its meta.json lists, or all.

    Raises:
        LookupError: no rule matches the published function.
    """
    rules = RULES.get(case.meta["group"], ())
    rule = next((r for r in rules if re.search(r.pattern, case.function, re.IGNORECASE)), None)
    if rule is None:
        raise LookupError(f"no rule of group {case.meta['group']} matches {case.function!r}")
    if not case.cotangents:
        return {name: value for name, value in rule.compute(case).items() if case.expects(name)}

    def loss(arrays: Arrays) -> tuple[mx.array, Arrays]:
        outputs = rule.compute(case.with_arrays(arrays))
        weighed = [mx.sum(case.cotangents[name] * outputs[name]) for name in case.cotangents]
        return sum(weighed, mx.array(0.0)), outputs

    every = case.inputs | case.params
    smooth = {
        name: array for name, array in every.items() if mx.issubdtype(array.dtype, mx.floating)
    }
    wanted = {name: array for name, array in smooth.items() if case.expects(f"grad.{name}")}
    (value, outputs), grads = mx.value_and_grad(loss)(wanted)
    got = outputs | {f"grad.{name}": grads[name] for name in wanted} | {"loss": value.reshape(1)}
    return {name: array for name, array in got.items() if case.expects(name)}


def compute_variants(folder: Path, meta: dict[str, Any]) -> Arrays:
    """The outputs of every variant of a case with a `form`.

    Raises:
        LookupError: the form has no rules here.
    """
    if meta["form"] != "numeric":
        raise LookupError(f"cases of form {meta['form']!r} have no rules yet")
    rules = (*losses.RULES, *policy_losses.RULES, *compression.RULES, *distillation.RULES)
    return numeric.run(folder, meta, rules)


def score_variants(meta: dict[str, Any], got: Arrays, expected: Arrays) -> dict[str, Any]:
    """`score` of variants: differences relative to the largest magnitude of each array, whole
    numbers exactly."""
    wanted = {name[4:]: array for name, array in expected.items() if name.startswith("out.")}
    tolerance = {}
    for name, array in wanted.items():
        exact = not mx.issubdtype(array.dtype, mx.floating)
        largest = 0.0 if exact else float(mx.abs(array).max()) or 1.0
        tolerance[name] = meta["tolerance"] * largest
    return score({"tolerance": tolerance}, got, wanted)


def score(meta: dict[str, Any], got: Arrays, expected: Arrays) -> dict[str, Any]:
    """The difference of each array from the expected one, and which are wrong or missing.

    Tolerances are of the largest absolute difference, or of the relative one where meta.json has a
    `relative_tolerance`. An array that isn't a gradient may not be missing.
    """
    relative = meta.get("relative_tolerance", {})
    differences, wrong = {}, []
    for name in sorted(set(got) & set(expected)):
        difference = largest_difference(got[name], expected[name], relative=name in relative)
        tolerance = relative.get(name, meta["tolerance"].get(name, 0.0))
        differences[name] = {"difference": difference, "tolerance": tolerance}
        if not difference <= tolerance * (1 + 1e-9):
            wrong.append(f"{name} {difference:.1e} > {tolerance:.1e}")
    missing = [f"no {name}" for name in sorted(set(expected) - set(got))]
    needed = [name for name in missing if not name.startswith(("no grad", "no loss"))]
    return {
        "ok": not wrong and not needed,
        "differences": differences,
        "wrong": wrong,
        "missing": missing,
    }


def largest_difference(got: mx.array, expected: mx.array, *, relative: bool) -> float:
    """The largest difference of two arrays in float64; infinite where shapes differ or NaN is."""
    a, b = (np.asarray(array).astype(np.float64) for array in (got, expected))
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    difference = np.abs(a - b) / (np.maximum(np.abs(b), 1e-300) if relative else 1.0)
    return float(difference.max(initial=0.0))


if __name__ == "__main__":
    main()
