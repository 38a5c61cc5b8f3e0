"""Cases of form `numeric`: one function with options, inputs and gradients per variant."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

Arrays = dict[str, mx.array]
Options = dict[str, Any]


class Rule(NamedTuple):
    """Computes every variant of the cases whose `source` matches `pattern`.

    `grads` names, by gradient, the output that is differentiated (its sum) and the input; any other
    `grad_X` is that of the output `loss` with respect to the input X. `defaults` are the published
    function's values of options that a variant leaves out.
    """

    pattern: str
    compute: Callable[[Options, Arrays], Arrays]
    grads: Mapping[str, tuple[str, str]] = {}
    defaults: Mapping[str, Any] = {}


def variants(
    folder: Path, meta: dict[str, Any]
) -> dict[str, tuple[Options, Arrays, tuple[str, ...]]]:
    """Options, inputs and the names of the outputs of each variant."""
    loaded: Any = mx.load(str(folder / "expected.safetensors"))
    shared = {
        k[3:]: v for k, v in loaded.items() if k.startswith("in.") and k[3:] in meta["inputs"]
    }
    found = {}
    for variant in meta["variants"]:
        prefix = f"in.{variant['name']}."
        own = {k[len(prefix) :]: v for k, v in loaded.items() if k.startswith(prefix)}
        found[variant["name"]] = (variant["options"], shared | own, tuple(variant["outputs"]))
    return found


def run(folder: Path, meta: dict[str, Any], rules: tuple[Rule, ...]) -> Arrays:
    """The outputs of all variants, named `variant.output`.

    Raises:
        LookupError: no rule matches the case's source.
    """
    rule = next((r for r in rules if re.search(r.pattern, meta["source"], re.IGNORECASE)), None)
    if rule is None:
        raise LookupError(f"no rule matches the source {meta['source']!r}")
    got = {}
    for name, (given, inputs, wanted) in variants(folder, meta).items():
        options = {**rule.defaults, **given}
        outputs = rule.compute(options, inputs)
        for output in wanted:
            if output in outputs:
                found = outputs[output]
                got[f"{name}.{output}"] = found.reshape(1) if found.ndim == 0 else found
            elif output.startswith("grad_"):
                of, by = rule.grads.get(output, ("loss", output.removeprefix("grad_")))
                got[f"{name}.{output}"] = gradient(rule, options, inputs, of, by)
    return got


def gradient(rule: Rule, options: Options, inputs: Arrays, of: str, by: str) -> mx.array:
    """The gradient of the sum of output `of` with respect to input `by`."""

    def total(x: mx.array) -> mx.array:
        return rule.compute(options, {**inputs, by: x})[of].sum()

    return mx.grad(total)(inputs[by])
