"""BigBird: BERT's layers with block-sparse or full attention, a head for sequences of its own.

Zaheer et al. 2020. Defaults are those of `BigBirdConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..layer_types import patterned
from ..rows import Row
from ..task_heads import TaskHead, architecture_of, classifier, pooler_head, task_of
from .bert import (
    CAUSAL,
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    bert_extras,
    bert_head,
    class_dropout,
    kind_of,
    layers,
    outer_rows,
    tower,
)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a BigBirdConfig.

    Raises:
        ConvertError: a decoder's attention is sparse, or an attention type is unknown.
    """
    activation = config.activation("hidden_act")
    table = with_blocks(config, tower(config))
    if config.get("rescale_embeddings"):
        table["embed"]["scale"] = "sqrt_dim"
    heads = task_head(config).tables()
    if heads.get("head", {}).get("kind") == "mlm":
        heads["head"]["activation"] = activation
    return {**table, "kind": kind_of(config), **heads}


def with_blocks(config: HfConfig, table: Table) -> Table:
    """Return a tower's table with the attention of its config.

    Each layer draws its random blocks by its own index. Where no text can be so long that pairs
    are left out, attention is full.
    """
    mixer = {**table["block"]["mixer"], "bias": config.get("use_bias")}
    full = {**table, "block": {**table["block"], "mixer": mixer}}
    size, n_random = config.get("block_size"), config.get("num_random_blocks")
    longest, kind = config.get("max_position_embeddings"), config.get("attention_type")
    if kind == "original_full" or (5 + 2 * n_random) * size >= longest:
        return full
    if kind != "block_sparse" or kind_of(config) == "decoder":
        raise config.refuse("attention_type", kind)
    sparse = {
        **mixer,
        "kind": "big_bird",
        "block": size,
        "n_random": n_random,
        "random_in_eval": False,
        "longest": longest,
    }
    names = [f"layer_{i}" for i in range(config.get("num_hidden_layers"))]
    variants = {name: {"mixer": {**sparse, "seed": i}} for i, name in enumerate(names)}
    return patterned({**full, "block": {**full["block"], "mixer": sparse}}, names, variants)


def attention_keys(view: FlatModel) -> Table:
    """Return the keys of the attention."""
    mixer = view.layers[0]["mixer"]
    if mixer["kind"] != "big_bird":
        return {"attention_type": "original_full"}
    return {
        "attention_type": "block_sparse",
        "block_size": mixer["block"],
        "num_random_blocks": mixer["n_random"],
    }


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of BigBird's: BERT's but for classifier and pooler."""
    match task_of(config, "ForPreTraining", *CAUSAL):
        case "Model":
            return pooler_head("bert.pooler")
        case "ForSequenceClassification":
            return classifier(
                config,
                "classifier.dense",
                "classifier.out_proj",
                activation=config.activation("hidden_act"),
                dropout=class_dropout(config),
            )
        case "ForQuestionAnswering":
            raise config.refuse("architectures", config.architecture)
    return bert_head(config, pooler="pooler")


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a BigBird."""
    return [*outer_rows("bert."), *layers("bert.encoder.layer.{i}"), *task_head(config).rows]


KEYS = {
    **ENCODER_KEYS,
    "use_bias": "block.mixer.bias",
    "rescale_embeddings": lambda view: view.get("embed.scale") == "sqrt_dim",
}

BIG_BIRD = Family(
    model_types=("big_bird",),
    architecture="BigBirdForPreTraining",
    model=model,
    weights=weights,
    config=config_writer(KEYS, attention_keys, architecture_of("BigBird", "ForCausalLM")),
    renames=(*TENSORFLOW_NAMES, prefixed("bert.", *HEADS)),
    **bert_extras("bert."),
)
