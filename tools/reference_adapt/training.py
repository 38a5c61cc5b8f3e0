"""Cases of form `training`: steps and gradients of adapters that PEFT saved, on published bases."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.assembly.adapted import read_adapter
from mlx_transformers.assembly.published import Published, read_published
from mlx_transformers.convert.adapters.layout import Factors
from mlx_transformers.convert.adapters.layout import Layout as Names
from mlx_transformers.convert.adapters.writing import peft_low_rank, published_modules
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.layers.adapters.switch import adapters_off
from mlx_transformers.layers.adapters.weights import plain_weights
from mlx_transformers.objectives.chunked_loss import ChunkedLoss
from mlx_transformers.objectives.dpo import Dpo, pair_log_probs
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.sgd import Sgd
from mlx_transformers.verbs.export_adapter import updates_of
from reference_adapt.model_form import ModelRule
from reference_adapt.numeric import Arrays

Loss = Callable[[], mx.array]
SIDES = ("chosen", "rejected")


class Trained:
    """A published model with a published adapter, of which the adapter alone is trained."""

    def __init__(self, folder: Path) -> None:
        published = read_published(folder / "base")
        self.base: Published = read_adapter(published, folder / "adapter").base
        self.model: Any = self.base.model
        _, table = read(self.base.family, HfConfig(self.base.config.data))
        shapes = {name: array.shape for name, array in plain_weights(self.model).items()}
        self.layout = Names.of(self.base.family, table, shapes)

    def gradients(self, loss: Loss) -> tuple[mx.array, Arrays]:
        """A loss, and its gradients by the paths of the parameters."""

        def of(parameters: Any) -> mx.array:
            self.model.update(parameters)
            return loss()

        start = self.model.trainable_parameters()
        value, grads = mx.value_and_grad(of)(start)
        self.model.update(start)
        return value, dict(tree_flatten(grads))

    def published(self, arrays: Arrays, prefix: str) -> Arrays:
        """Arrays of the adapter's parameters under the names of the saved file."""
        updates = {}
        for path, own in updates_of(self.model).items():
            a, b = (arrays[f"{path}.adapter.lora_{side}"] for side in "ab")
            norms = arrays.get(f"{path}.adapter.magnitude")
            updates[path] = Factors(a, b, own.scale, norms)
        modules = published_modules(self.layout, updates)
        written = peft_low_rank(modules, dora=False, rslora=False, conv1d=False, dropout=0.0)
        return {f"{prefix}.{name}": array for name, array in written.tensors.items()}


def fine_tuning(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """Steps on the completions' tokens."""
    trained, options = Trained(folder), meta["options"]
    mask = x["completion_mask"][:, 1:].astype(mx.float32)
    tokens, ctx = x["ids"].astype(mx.int32), rows(x["attention_mask"])

    def loss() -> mx.array:
        model = trained.model
        h = model.hidden(model.embedded({"tokens": tokens[:, :-1]}, ctx), ctx)
        nll = -ChunkedLoss().log_probs(model, h, tokens[:, 1:])
        return (nll * mask).sum() / mask.sum()

    optimizer = optimizer_of(options)
    losses, norms, first = [], [], {}
    for step in range(options["steps"]):
        value, grads = trained.gradients(loss)
        norm = mx.sqrt(sum((g.square().sum() for g in grads.values()), mx.array(0.0)))
        losses.append(value)
        norms.append(norm)
        first = first if step else trained.published(grads, "grad")
        if "max_grad_norm" in options:
            share = mx.minimum(options["max_grad_norm"] / (norm + 1e-6), 1.0)
            grads = {name: grad * share for name, grad in grads.items()}
        now = dict(tree_flatten(trained.model.trainable_parameters()))
        trained.model.update(tree_unflatten(list(optimizer.apply_gradients(grads, now).items())))
        mx.eval(trained.model.parameters())
    after = dict(tree_flatten(trained.model.trainable_parameters()))
    found = {"losses": mx.stack(losses), "grad_norms": mx.stack(norms)}
    return found | first | trained.published(after, "after")


def preferences(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """One step of DPO, whose reference is the model without its adapter."""
    trained, options = Trained(folder), meta["options"]
    kind = Dpo(
        loss=options["loss_type"],
        beta=options["beta"],
        label_smoothing=options.get("label_smoothing", 0.0),
        reference="adapter_off",
    )
    batch = {f"{side}": x[f"{side}_ids"].astype(mx.int32) for side in SIDES}
    for side in SIDES:
        batch[f"{side}_counted"] = x[f"{side}_completion_mask"][:, 1:].astype(mx.float32)
    batch["weights"] = mx.ones((len(batch["chosen"]),))
    ctx = rows(mx.concatenate([x[f"{side}_attention_mask"] for side in SIDES]))
    objective, models = kind.build(), {"model": trained.model}

    def loss() -> mx.array:
        found = objective(models, batch, replace(ctx))
        return found.total / found.weight

    value, grads = trained.gradients(loss)
    found = logps(trained.model, batch, ctx, "logps")
    with adapters_off(trained.model):
        found |= logps(trained.model, batch, ctx, "ref_logps")
    return found | {"loss": value} | trained.published(grads, "grad")


def logps(model: Any, batch: Arrays, ctx: Context, name: str) -> Arrays:
    """The log-probabilities of both sides."""
    parts = mx.split(pair_log_probs(model, batch, ctx, ChunkedLoss()), 2)
    return {f"{name}_{side}": part for side, part in zip(SIDES, parts, strict=True)}


def rows(attention_mask: mx.array) -> Context:
    """The context of the rows without their last tokens, which nothing follows."""
    return Context(Layout(valid=attention_mask[:, :-1].astype(mx.bool_)))


def optimizer_of(options: dict[str, Any]) -> Any:
    """torch's AdamW, Adam or SGD."""
    name, rate, decay = options["optimizer"], options["lr"], options.get("weight_decay", 0.0)
    if name == "SGD":
        return Sgd(learning_rate=rate, momentum=options.get("momentum", 0.0)).group(rate, decay)
    if name not in ("Adam", "AdamW") or (name == "Adam" and decay):
        raise LookupError(f"the optimizer {name} with weight decay {decay} has no rule")
    betas, eps = tuple(options.get("betas", (0.9, 0.999))), options.get("eps", 1e-8)
    return AdamW(learning_rate=rate, betas=betas, eps=eps).group(rate, decay)


RULES = (
    ModelRule(r"DPOTrainer", preferences),
    ModelRule(r"torch\.optim", fine_tuning),
)
