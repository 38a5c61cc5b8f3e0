"""Cases of form `training`: steps and gradients of published models, or of adapters on them.

What is trained are the tensors of the saved file, under its names: the model's parameters are those
that its import makes of them, so that gradients come back under these names.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mlx_transformers.assembly.adapted import layout_of, read_adapter
from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.adapters import peft
from mlx_transformers.convert.checkpoint import read_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.safetensors import read_file
from mlx_transformers.convert.weights import to_ours
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.parse import read_table
from mlx_transformers.layers.adapters.switch import adapters_off
from mlx_transformers.layers.adapters.weights import plain_weights
from mlx_transformers.objectives.chunked_loss import ChunkedLoss
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.sgd import Sgd
from reference_adapt import losses
from reference_adapt.model_form import ModelRule
from reference_adapt.numeric import Arrays

Loss = Callable[[], mx.array]
SIDES = ("chosen", "rejected")


class Trained:
    """A published model, and the tensors of it or of its adapter that are trained.

    Attributes:
        model: the module.
        tensors: the trained ones, under their names in the file.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.base = read_published(folder / "base")
        adapter = folder / "adapter"
        if adapter.is_dir():
            every = read_file(adapter / peft.WEIGHTS)
            self._ours = self._of_adapter(adapter)
        else:
            every = read_tensors(folder / "base")
            self._ours = self._of_model()
        names = {name.removeprefix("grad.") for name in meta["outputs"] if name.startswith("grad.")}
        self.tensors = {name: array for name, array in every.items() if name in names}
        self._frozen = {name: array for name, array in every.items() if name not in names}

    @property
    def model(self) -> Any:
        """The module."""
        return self.base.model

    def _of_adapter(self, folder: Path) -> Callable[[Arrays], Arrays]:
        config, weights = read_table(folder / "adapter_config.json"), plain_weights(self.model)
        layout = layout_of(self.base, weights)
        self.base = read_adapter(self.base, folder).base

        def ours(tensors: Arrays) -> Arrays:
            return peft.open_peft(config, tensors, str(folder), layout, weights).weights

        return ours

    def _of_model(self) -> Callable[[Arrays], Arrays]:
        family = self.base.family
        _, table = read(family, HfConfig(self.base.config.data))
        shapes = {name: array.shape for name, array in tree_flatten(self.model.parameters())}

        def ours(tensors: Arrays) -> Arrays:
            return to_ours(table, shapes, tensors, spare=family.spare, tied=dict(family.tied))

        return ours

    def set(self, tensors: Arrays) -> None:
        """Make the model that of these tensors."""
        self.model.update(tree_unflatten(list(self._ours(self._frozen | tensors).items())))

    def gradients(self, loss: Loss) -> tuple[mx.array, Arrays]:
        """A loss, and its gradients with respect to the tensors."""

        def of(tensors: Arrays) -> mx.array:
            self.set(tensors)
            return loss()

        value, grads = mx.value_and_grad(of)(self.tensors)
        self.set(self.tensors)
        return value, grads


def fine_tuning(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """Steps on the completions' tokens."""
    trained, options = Trained(folder, meta), meta["options"]
    mask = x["completion_mask"][:, 1:].astype(mx.float32)
    tokens, ctx = x["ids"].astype(mx.int32), rows(x["attention_mask"])

    def loss() -> mx.array:
        nll = -token_log_probs(trained.model, tokens, replace(ctx))
        return (nll * mask).sum() / mask.sum()

    step, decay = optimizer_of(options)
    values, norms = [], []
    first: Arrays = {}
    for number in range(options["steps"]):
        value, grads = trained.gradients(loss)
        norm = mx.sqrt(sum((g.square().sum() for g in grads.values()), mx.array(0.0)))
        values.append(value)
        norms.append(norm)
        first = first if number else {f"grad.{name}": grad for name, grad in grads.items()}
        if options.get("max_grad_norm"):
            share = mx.minimum(options["max_grad_norm"] / (norm + 1e-6), 1.0)
            grads = {name: grad * share for name, grad in grads.items()}
        if decay:
            grads = {name: grad + decay * trained.tensors[name] for name, grad in grads.items()}
        trained.tensors = step.apply_gradients(grads, trained.tensors)
        mx.eval(trained.tensors)
    after = {f"after.{name}": array for name, array in trained.tensors.items()}
    return {"losses": mx.stack(values), "grad_norms": mx.stack(norms), **first, **after}


def preferences(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """One step of DPO, whose reference is the model without its adapter."""
    trained, options = Trained(folder, meta), meta["options"]
    masks = {f"{side}_mask": x[f"{side}_completion_mask"][:, 1:] for side in SIDES}

    def logps(prefix: str = "") -> Arrays:
        return {
            f"{prefix}{side}_logps": token_log_probs(
                trained.model, x[f"{side}_ids"].astype(mx.int32), rows(x[f"{side}_attention_mask"])
            )
            for side in SIDES
        }

    with adapters_off(trained.model):
        before = logps("ref_")
    mx.eval(before)
    value, grads = trained.gradients(
        lambda: losses.dpo(options, logps() | before | masks)["loss"],
    )
    own = logps() | before
    found = {
        f"{prefix}logps_{side}": losses.total(own[f"{prefix}{side}_logps"], masks[f"{side}_mask"])
        for prefix in ("", "ref_")
        for side in SIDES
    }
    return found | {"loss": value} | {f"grad.{name}": grad for name, grad in grads.items()}


def token_log_probs(model: Any, tokens: mx.array, ctx: Context) -> mx.array:
    """The log-probability of every token after the first, `[B, T - 1]`."""
    h = model.hidden(model.embedded({"tokens": tokens[:, :-1]}, ctx), ctx)
    targets = tokens[:, 1:]
    return ChunkedLoss().log_probs(model, h[:, -targets.shape[1] :], targets)


def rows(attention_mask: mx.array) -> Context:
    """The context of the rows without their last tokens, which nothing follows."""
    return Context(Layout(valid=attention_mask[:, :-1].astype(mx.bool_)))


def optimizer_of(options: dict[str, Any]) -> tuple[Any, float]:
    """torch's AdamW, Adam or SGD, and the weight decay that is added to gradients before it."""
    name, rate, decay = options["optimizer"], options["lr"], options.get("weight_decay", 0.0)
    if name == "SGD":
        kind = Sgd(
            learning_rate=rate,
            momentum=options.get("momentum", 0.0),
            nesterov=options.get("nesterov", False),
        )
        return kind.group(rate, 0.0), decay
    if name not in ("Adam", "AdamW"):
        raise LookupError(f"the optimizer {name} has no rule")
    betas, eps = tuple(options.get("betas", (0.9, 0.999))), options.get("eps", 1e-8)
    own = decay if name == "AdamW" else 0.0
    return AdamW(learning_rate=rate, betas=betas, eps=eps).group(rate, own), decay - own


RULES = (
    ModelRule(r"DPOTrainer", preferences),
    ModelRule(r"torch\.optim", fine_tuning),
)
