"""Merges the adapters of a run into its base: a new run of a plain model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..assembly.published import CONFIG
from ..assembly.recipe import load_recipe
from ..assembly.saved import load
from ..core.device import facts
from ..core.errors import RunError
from ..core.parse import read_table
from ..data.tokenizers.load import load_tokenizer
from ..layers.adapters.merge import merge
from ..layers.packed import packed_layers, packed_table, stored
from ..models.encoder_decoder import EncoderDecoderModel
from ..models.model import Model
from ..recipe.load import resolve_data
from ..recipe.toml import to_toml
from ..runs import checkpoint
from ..runs.durable import replace_text
from ..runs.folder import RUNS, RunFolder, check_new, create, find_checkpoint
from ..runs.progress import Progress

ROWS, LENGTH = 8, 32
"""Size of the random rows on which the two models are compared."""
KL_BOUND, CHANGED_BOUND = 0.02, 0.05
"""Mean KL divergence in nats, and share of changed argmax, beyond which a merge is refused."""


@dataclass(frozen=True)
class Fidelity:
    """The merged model against the one with its adapters.

    Attributes:
        kl: mean KL divergence of its distributions, in nats.
        changed: share of positions with another most likely answer.
    """

    kl: float
    changed: float

    @property
    def sentence(self) -> str:
        """The two numbers in one sentence."""
        return (
            f"Merged against live on {ROWS * LENGTH} random tokens: KL {self.kl:.2g} nats, "
            f"{self.changed:.1%} of the argmax changed."
        )


def fuse(
    run: str | Path | None, name: str | None = None, *, anyway: bool = False, root: Path = RUNS
) -> tuple[RunFolder, Fidelity]:
    """Merge the adapters of a run's best checkpoint, or of the one named, into a new run.

    A quantized base is quantized again, which rounds the updates away if they are small.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        name: the new run's name; None takes the run's with "-fused".
        anyway: write the run even where it differs from the live model beyond the bounds.
        root: the folder of runs.

    Raises:
        MlxtError: the run has no adapters, they can't be merged, or the merged model differs.
    """
    check_new(name, root)
    folder, saved = find_checkpoint(run, root)
    recipe = load_recipe(folder.recipe)
    if recipe.adapt is None or recipe.resolved is None:
        raise RunError(f"{folder.path} has no adapters: there is nothing to merge.")
    model, _ = load(saved)
    mx.random.seed(0)
    tokens = mx.random.randint(0, model.vocab_size, (ROWS, min(LENGTH, model.max_seq_len)))
    live = answers(model, tokens)
    mx.eval(live)
    merge(model)
    found = fidelity(live, answers(model, tokens))
    if (found.kl > KL_BOUND or found.changed > CHANGED_BOUND) and not anyway:
        raise RunError(
            f"{found.sentence} That is beyond {KL_BOUND} nats or {CHANGED_BOUND:.0%}, so nothing "
            "was written: quantizing the sum again loses the adapters. Keep them apart, adapt a "
            "base of more bits, or write it all the same with --anyway."
        )
    new = create(name, f"{folder.name}-fused", root)
    data: dict[str, Any] = {k: v for k, v in recipe.resolved.data.items() if k != "adapt"}
    if data["data"]["tokenizer"].get("kind") != "numbers":
        own = {"kind": "saved", "path": str(new.tokenizer)}
        data = data | {"data": data["data"] | {"tokenizer": own}}
    chosen = {path: how for path, _, how in packed_layers(model)}
    weights: Any = model.parameters()
    if chosen:
        usual = max(chosen.values(), key=list(chosen.values()).count)
        table = packed_table(model, usual, chosen)
        data["packed"] = table.model_dump(exclude_none=True)
        weights = stored(model, table.dtype)
    resolved = resolve_data(data, str(folder.recipe))
    with new.locked():
        new.keep_tokenizer(load_tokenizer(folder.tokenizer).save)
        if (folder.path / CONFIG).is_file():
            config = read_table(folder.path / CONFIG)
            replace_text(new.path / CONFIG, json.dumps(config, indent=2) + "\n")
        state = Progress().to_dict() | {"data": None}
        checkpoint.save(new.checkpoints, 0, {"model": weights}, state, best=True)
        header = f"# Merged from the adapters and the base of {saved}.\n"
        new.describe(header + to_toml(resolved.data), facts() | {"merged": str(saved)})
    return new, found


def answers(model: Model, tokens: mx.array) -> mx.array:
    """The logits of a model of any kind; an encoder-decoder reads the tokens on both sides."""
    if isinstance(model, EncoderDecoderModel):
        return model(tokens, tokens)
    out: mx.array = model(tokens)
    return out


def fidelity(live: mx.array, merged: mx.array) -> Fidelity:
    """Compare the logits `[..., V]` of two models."""
    p, q = (x.astype(mx.float32) - mx.logsumexp(x, axis=-1, keepdims=True) for x in (live, merged))
    kl = (mx.exp(p) * (p - q)).sum(axis=-1).mean()
    changed = (live.argmax(axis=-1) != merged.argmax(axis=-1)).astype(mx.float32).mean()
    return Fidelity(max(0.0, float(kl)), float(changed))
