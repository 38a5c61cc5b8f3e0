"""Cases of form `model`: a published model, its logits, and what it generates greedily."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_transformers.assembly.published import read_published
from mlx_transformers.core.context import Context
from mlx_transformers.decode.engine import Engine
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.models.model import Model
from reference_adapt.numeric import Arrays


class ModelRule(NamedTuple):
    """Computes the cases whose `source` matches `pattern`: `(folder, meta, inputs) -> outputs`."""

    pattern: str
    compute: Callable[[Path, dict[str, Any], Arrays], Arrays]


def run(folder: Path, meta: dict[str, Any], rules: tuple[ModelRule, ...]) -> Arrays:
    """The outputs of a case.

    Raises:
        LookupError: no rule matches the case's source.
    """
    rule = next((r for r in rules if re.search(r.pattern, meta["source"], re.IGNORECASE)), None)
    if rule is None:
        raise LookupError(f"no rule matches the source {meta['source']!r}")
    loaded: Any = mx.load(str(folder / "expected.safetensors"))
    return rule.compute(folder, meta, {name: loaded[name] for name in meta["inputs"]})


def score(meta: dict[str, Any], got: Arrays, expected: Arrays) -> dict[str, Any]:
    """List the outputs that are wrong or missing; floats by their largest difference, where a case
    says so relative to the largest value expected."""
    relative = meta.get("compare", "").startswith("relative")
    wrong, differences = [], {}
    for name in meta["outputs"]:
        if name not in got:
            continue
        exact = not mx.issubdtype(expected[name].dtype, mx.floating)
        tolerance = 0.0 if exact else meta["tolerance"]
        if relative:
            tolerance *= float(mx.abs(expected[name]).max())
        same = got[name].shape == expected[name].shape
        found = float(mx.abs(got[name] - expected[name]).max()) if same else float("inf")
        differences[name] = {"difference": found, "tolerance": tolerance}
        if not found <= tolerance:
            wrong.append(f"{name} {found:.1e} > {tolerance:.1e}")
    missing = [f"no {name}" for name in meta["outputs"] if name not in got]
    return {"ok": not wrong, "differences": differences, "wrong": wrong, "missing": missing}


def logits_of(model: Any, tokens: mx.array) -> mx.array:
    """The logits `[B, T, V]` of a decoder."""
    logits: mx.array = model(tokens.astype(mx.int32), Context())
    return logits


def generated(model: Any, prompts: mx.array, n: int) -> Arrays:
    """The tokens that a decoder generates greedily, and the logits that each was taken from."""
    engine = Engine(model, sampling=Sampling(0.0))
    engine.start(prompts.tolist())
    tokens = mx.array(list(engine.tokens(n)), dtype=mx.int64).T
    whole = mx.concatenate([prompts.astype(mx.int64), tokens], axis=1)
    logits = logits_of(model, whole)[:, prompts.shape[1] - 1 : -1]
    return {"gen_tokens": tokens, "gen_logits": logits}


def quantized(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """A model that mlx-lm quantized, as it opens here. The case lacks the weights before."""
    model: Model = read_published(folder / "base").model
    found = {"logits": logits_of(model, x["input_ids"])}
    return found | generated(model, x["prompt_ids"], meta["gen"]["new_tokens"])


RULES = (ModelRule(r"quantize_model", quantized),)
