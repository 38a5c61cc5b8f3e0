"""Turns a dense run into experts that start as copies of its ffn: `mlxt upcycle`.

Sparse upcycling (Komatsuzaki et al. 2023, section 2): every expert is the dense ffn, and a router
is drawn by the seed. With gates that sum to 1 the new model computes what the dense one does; the
result is compared with its source before it is written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..assembly.checks import check_routers
from ..assembly.model import build_model
from ..compress.fidelity import LOSSY, Fidelity
from ..core.errors import RecipeError, RunError
from ..core.messages import LogFn
from ..layers.ffns.expert import stackable
from ..models.decoder import Decoder
from ..ops.growth import expert_copies
from ..runs.folder import RUNS, RunFolder, check_new
from .derived_run import Origin, model_table, origin_of, write_run
from .gate import check_equal, gate
from .text_sample import sample_text

BALANCE = 0.01
"""Coefficient of the balance loss of new routers (Fedus et al. 2021, section 2.2)."""


@dataclass(frozen=True)
class Experts:
    """How a dense model becomes experts.

    Attributes:
        n_experts: experts of a layer.
        top_k: experts that a token takes.
        normalize: whether the gates of a token sum to 1, which keeps the output.
        every: every Nth layer becomes experts.
        anyway: write a result that is far from its source.
    """

    n_experts: int
    top_k: int = 2
    normalize: bool = True
    every: int = 1
    anyway: bool = False


def upcycle(
    source: str,
    experts: Experts,
    *,
    name: str | None = None,
    root: Path = RUNS,
    say: LogFn = print,
) -> tuple[RunFolder, Fidelity]:
    """Write a run whose ffns are experts, copies of the source's.

    Args:
        source: a run or one of its checkpoints, or a published folder.
        experts: how many, and of which layers.
        name: the new run's name; None takes the source's with the experts behind it.
        root: the folder of runs.
        say: reports the result.

    Returns:
        The new run, and how far it is from its source.

    Raises:
        MlxtError: the source can't be read, its ffns can't be stacked, or the result is too far
            from its source. Nothing is written then.
    """
    check_new(name, root)
    with origin_of(source, root) as origin:
        dense = origin.plain_model("upcycle")
        table = expert_table(origin, model_table(origin, dense), experts)
        model = build_model(origin.recipe_with(table), origin.tokenizer, reads_text=False)
        check_routers(model)
        weights = upcycled(model.parameters(), dense.parameters(), experts.n_experts)
        model.update(weights)
        text = sample_text(None, origin.recipe, origin.tokenizer, dense.vocab_size)
        cure = "Let gates sum to 1 with --top-k 2 or more and --normalize"
        difference = gate(dense, model, text.held_out, LOSSY, cure, anyway=experts.anyway)
        if experts.normalize:
            check_equal(difference)
        folder = write_run(
            origin,
            name,
            f"{origin.folder.name}-{experts.n_experts}x{experts.top_k}",
            {"model": table},
            weights,
            {"upcycled": origin.where},
            root,
        )
    say(difference.line())
    return folder, difference


def expert_table(origin: Origin, table: dict[str, Any], experts: Experts) -> dict[str, Any]:
    """Return the `[model]` table with experts in the place of ffns.

    Raises:
        RecipeError: the ffn can't be stacked, or layers are named already.
    """
    model = origin.recipe.model
    if not isinstance(model, Decoder) or model.blocks or model.block.ffn is None:
        raise RecipeError(
            f"{origin.where} can't be upcycled: decoders whose layers are all of one [model.block] "
            "with an ffn can."
        )
    if experts.n_experts < 2 or not 1 <= experts.top_k <= experts.n_experts:
        raise RecipeError(
            f"{experts.n_experts} experts of which a token takes {experts.top_k}: take at least "
            "two --experts, and --top-k from 1 to their number."
        )
    if not 1 <= experts.every <= model.n_layers:
        raise RecipeError(f"--every {experts.every}: take 1 to {model.n_layers}, the layers.")
    stackable(model.block.ffn)
    moe = {
        "kind": "moe",
        "n_experts": experts.n_experts,
        "expert": table["block"]["ffn"],
        "router": {
            "kind": "top_k",
            "top_k": experts.top_k,
            "normalize": experts.normalize,
            "balance_loss": BALANCE,
        },
    }
    if experts.every == 1:
        return {**table, "block": {**table["block"], "ffn": moe}}
    blocks = {"dense": {}, "experts": {"ffn": moe}}
    pattern = ["dense"] * (experts.every - 1) + ["experts"]
    return {**table, "blocks": blocks, "pattern": pattern}


def upcycled(new: object, dense: object, n_experts: int) -> Any:
    """Return the parameters of the model of experts, from those of the dense one.

    Raises:
        RunError: an array of the dense model has no place.
    """
    old = dict(tree_flatten(dense))
    used: set[str] = set()
    arrays: list[tuple[str, mx.array]] = []
    for path, value in tree_flatten(new):
        plain = path.replace(".experts.", ".")
        source = path if path in old else plain
        if source not in old:
            arrays.append((path, value))
            continue
        used.add(source)
        copied = old[source] if source == path else expert_copies(old[source], n_experts)
        arrays.append((path, copied))
    if unused := sorted(old.keys() - used):
        raise RunError(f"{unused[0]} of the dense model has no place among the experts.")
    weights = tree_unflatten(arrays)
    mx.eval(weights)
    return weights
