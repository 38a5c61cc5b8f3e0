"""Checks between the parts of a recipe: model against objective, data and processes."""

from mlx.utils import tree_flatten

from ..core.errors import RecipeError
from ..data.prepared import Prepared
from ..layers.block import Block
from ..layers.heads import TagHead
from ..layers.pair_pools import Distogram, OuterProduct
from ..layers.pools import Classifier
from ..layers.routers.routing import Routing
from ..models.model import Model, ModelKind
from ..models.sharing import check_parts
from ..objectives.objective import ADAPTER_OFF as OFF
from ..objectives.objective import ObjectiveKind
from ..objectives.policy import PolicyKind
from ..optim.optimizer import Optimizer
from ..optim.schedules import Warmup
from ..recipe.config import Kind
from ..recipe.slot import KINDS
from ..rl.rollouts import Rollouts
from .recipe import Recipe


def check_division(recipe: Recipe, model: Model) -> None:
    """Check that `train.tensor_parallel` processes can share the layers of a recipe's model.

    Raises:
        RecipeError: they can't; the message names the key and the cure.
    """
    if recipe.train.tensor_parallel == 1:
        return
    if recipe.adapt is not None:
        raise RecipeError(
            "train.tensor_parallel shares the layers of a model, and [adapt] wraps them: leave one "
            "of the two out. train.shard_optimizer goes with adapters."
        )
    check_parts(recipe.model, model, recipe.train.tensor_parallel)
    if not recipe.optim.pointwise:
        raise RecipeError(
            f"optim.kind = '{recipe.optim.kind}' as it is set looks at whole arrays, of which a "
            "process has a part with train.tensor_parallel: take 'adamw', 'adam', 'lion' or 'sgd', "
            "and no optim.state = 'int8'."
        )


def check_model(recipe: Recipe) -> None:
    """Check that the objective can train the recipe's model.

    Raises:
        RecipeError: its tasks or its slots are not those that the objective needs, or a layer
            needs later positions that its task doesn't have.
    """
    check_causal(recipe)
    check_temperature(recipe)
    check_reference(recipe)
    objective, model = recipe.objective, recipe.model
    if not _trains(objective, type(model), model.kind):
        suited = [name for name, kind in model_kinds().items() if _trains(objective, kind, name)]
        raise RecipeError(
            f"objective '{objective.kind}' can't train a model of kind '{model.kind}'. Kinds that "
            f"it trains: {', '.join(suited)}."
        )
    for slot, kinds_of_slot in objective.needs_slots.items():
        filled = filling(model, slot)
        if filled is None or filled.kind not in kinds_of_slot:
            has = f"is of kind '{filled.kind}'" if filled else "is absent"
            kinds = " or ".join(f"'{kind}'" for kind in kinds_of_slot)
            raise RecipeError(
                f"objective '{objective.kind}' reads model.{slot}, which {has}: set "
                f"model.{slot}.kind = {kinds}."
            )


def check_new(recipe: Recipe) -> None:
    """Check a new run: `check_model`, and combinations that only older runs may have.

    Raises:
        RecipeError: as `check_model`, `check_rounding` or `check_zeros`.
    """
    check_model(recipe)
    check_rounding(recipe)
    check_zeros(recipe)


def check_start(recipe: Recipe, model: Model) -> None:
    """Check a recipe and its model before a new run starts.

    Raises:
        RecipeError: as `check_new`, `check_room` or `check_routers`.
    """
    check_new(recipe)
    check_room(recipe, model)
    check_routers(model)


def check_room(recipe: Recipe, model: Model) -> None:
    """Check that the rows of a new run fit the context that adapters leave to its model.

    Raises:
        RecipeError: they don't.
    """
    room, length = model.max_seq_len, recipe.train.seq_len
    if recipe.adapt is not None and length > room:
        raise RecipeError(
            f"train.seq_len = {length} exceeds the {room} positions that adapt.kind = "
            f"'{recipe.adapt.kind}' leaves of the model's: shorten the rows, or set a smaller "
            "adapt.length."
        )


def check_routers(model: Model) -> None:
    """Check that the task can train every router that isn't frozen.

    Raises:
        RecipeError: one scales its only gate to 1. Published models may have such routers, which
            are run as they are.
    """
    for path, module in model.named_modules():
        config = getattr(module, "config", None)
        constant = isinstance(config, Routing) and config.constant
        if constant and tree_flatten(module.trainable_parameters()):
            raise RecipeError(
                f"The router {path} has top_k = 1 with normalize = true, which makes every gate 1, "
                "so that it would learn nothing from the task. Set normalize = false, as Switch "
                "does, or train the rest alone: train.freeze = ['*.router']."
            )


def check_rounding(recipe: Recipe) -> None:
    """Check that weights that a new run rounds are not the base of adapters.

    Raises:
        RecipeError: they are; a base that never changes is packed instead.
    """
    if recipe.quantize is not None and recipe.adapt is not None:
        raise RecipeError(
            "[quantize] trains the weights that it rounds, and [adapt] freezes them: leave "
            f"[quantize] out, and set adapt.base_bits = {recipe.quantize.bits}, which packs the "
            "base (QLoRA)."
        )


def check_zeros(recipe: Recipe) -> None:
    """Check that the weights that a new run prunes are those that it is judged by.

    Raises:
        RecipeError: they are averages that the optimizer keeps, in which zeros don't stay.
    """
    if recipe.prune is not None and recipe.optim.averages:
        raise RecipeError(
            f"[prune] sets trained weights to 0, and optim.kind = '{recipe.optim.kind}' is judged "
            "by averages, in which they aren't 0: take 'adamw', with train.ema for an average."
        )


def check_reference(recipe: Recipe) -> None:
    """Check that a reference policy that is the base of an adapted run is that base alone.

    Raises:
        RecipeError: the recipe has no `[adapt]`, or trains weights of the base itself.
    """
    tables = {"objective": recipe.objective, "source": recipe.source}
    table = next((t for t, kind in tables.items() if dict(kind).get("reference") == OFF), None)
    if table is None:
        return
    if recipe.adapt is None:
        raise RecipeError(
            f"{table}.reference = '{OFF}' is the policy without its adapters, and this recipe has "
            "no [adapt]: name the run that training starts from."
        )
    # The pool of a value function or a reward is no part of the policy.
    moved = any(not path.startswith("pool") for path in recipe.adapt.train)
    if moved or recipe.adapt.trained_biases() != "none":
        raise RecipeError(
            f"{table}.reference = '{OFF}' is the policy without its adapters, and [adapt] trains "
            "weights of the base too (train or bias), so that the reference would change with the "
            "policy: name the run that training starts from."
        )


def check_temperature(recipe: Recipe) -> None:
    """Check that a policy gradient is computed at the temperature that its rollouts have.

    Raises:
        RecipeError: it isn't.
    """
    objective, source = recipe.objective, recipe.source
    if not isinstance(objective, PolicyKind) or not isinstance(source, Rollouts):
        return
    if objective.temperature != source.temperature:
        raise RecipeError(
            f"objective.temperature = {objective.temperature:g}, but completions are sampled at "
            f"source.temperature = {source.temperature:g}: set both to one value."
        )


def _trains(objective: ObjectiveKind, kind: type[ModelKind], name: str) -> bool:
    """Whether the objective can train models of a kind."""
    return bool(objective.tasks & kind.tasks) and (not objective.models or name in objective.models)


def check_causal(recipe: Recipe) -> None:
    """Check that no layer needs later positions where a model predicts the next token.

    Raises:
        RecipeError: one does; or it mixes the documents of packed rows.
    """
    for tower in recipe.model.towers():
        for block in (layer for layer in tower.layers if isinstance(layer, Block)):
            noncausal = next((kind for kind in block.sublayers if not kind.causal), None)
            if noncausal is None:
                continue
            if recipe.model.generates and not tower.reads_source:
                raise RecipeError(
                    f"A layer of kind '{noncausal.kind}' computes each output from later positions "
                    f"too, so a model of kind '{recipe.model.kind}' can't learn to predict the "
                    "next token with it, nor decode. Use it in an encoder (model.kind = "
                    "'encoder'), or choose a causal kind."
                )
            if recipe.data.mask_documents:
                raise RecipeError(
                    f"data.mask_documents = true, but a layer of kind '{noncausal.kind}' mixes all "
                    "positions of a row, those of other documents too. Set it to false."
                )


def check_warmup(recipe: Recipe) -> str | None:
    """Warn of a warm-up that the run doesn't outlast, in a sentence."""
    optim, steps = recipe.optim, recipe.train.steps
    schedule = optim.schedule if isinstance(optim, Optimizer) else None
    if not isinstance(schedule, Warmup) or schedule.warmup < steps:
        return None
    share = steps / schedule.warmup
    return (
        f"Warning: the warm-up of {schedule.warmup} steps is not over when the run ends at step "
        f"{steps}: the learning rate only reaches {share:.0%} of optim.learning_rate. Set "
        f"optim.schedule.warmup to less, such as {steps // 10}."
    )


REACHES = ("window", "stride", "n_landmarks")
"""Fields of mixers that count tokens of a row: beyond its length they make a mixer dense."""


def check_reach(recipe: Recipe) -> str | None:
    """Warn of the first mixer whose window is longer than the rows of training, in a sentence."""
    length = recipe.train.seq_len
    for tower in recipe.model.towers():
        for block in (layer for layer in tower.layers if isinstance(layer, Block)):
            for name in REACHES:
                reach = getattr(block.mixer, name, None)
                if reach is not None and reach > length and not tower.reads_source:
                    return (
                        f"Warning: mixer.{name} = {reach} of kind '{block.mixer.kind}' is more "
                        f"than the {length} tokens of a row (train.seq_len), so nothing is left "
                        "out in training. Choose less, or longer rows."
                    )
    return None


def check_classes(recipe: Recipe, data: Prepared) -> None:
    """Check that the model has the classes of the data and of the objective.

    Raises:
        RecipeError: the data has more classes than the model, or the objective reads another
            number of them.
    """
    objective, labels = recipe.objective, data.labels
    if objective.classes_from is None:
        return
    slot = f"model.{objective.classes_from}"
    head = filling(recipe.model, objective.classes_from)
    classified = TagHead | Classifier | Distogram | OuterProduct
    assert isinstance(head, classified), "check_model has seen to the slot's kind"
    if objective.n_classes not in (None, head.n_classes):
        raise RecipeError(
            f"objective '{objective.kind}' reads {objective.n_classes} classes of {slot}: set "
            f"{slot}.n_classes = {objective.n_classes}, not {head.n_classes}."
        )
    if head.n_classes < len(labels):
        names = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
        raise RecipeError(
            f"{slot}.n_classes = {head.n_classes}, but the data has {len(labels)} classes: {names}."
        )


def filling(model: ModelKind, slot: str) -> Kind | None:
    """The table that fills a slot of a model; None where it has no such slot or leaves it out."""
    table = dict(model).get(slot)
    return table if isinstance(table, Kind) else None


def objective_kinds() -> dict[str, type[ObjectiveKind]]:
    """Every objective kind by name."""
    kinds = KINDS["objective"].items()
    return {name: cls for name, cls in kinds if issubclass(cls, ObjectiveKind)}


def model_kinds() -> dict[str, type[ModelKind]]:
    """Every model kind by name."""
    return {name: cls for name, cls in KINDS["model"].items() if issubclass(cls, ModelKind)}
