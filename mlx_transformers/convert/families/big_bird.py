"""BigBird where its attention is full: BERT's layers, a head for sequences of its own.

Zaheer et al. 2020. Defaults are those of `BigBirdConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import config_writer
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
        ConvertError: texts may be so long that its sparse attention leaves pairs out.
    """
    activation = config.activation("hidden_act")
    longest = config.get("max_position_embeddings")
    blocks = 5 + 2 * config.get("num_random_blocks")
    always_full = blocks * config.get("block_size") >= longest
    if config.get("attention_type") != "original_full" and not always_full:
        raise config.refuse("attention_type", "block_sparse")
    table = tower(config)
    table["block"]["mixer"]["bias"] = config.get("use_bias")
    if config.get("rescale_embeddings"):
        table["embed"]["scale"] = "sqrt_dim"
    found = task_head(config).tables()
    if found.get("head", {}).get("kind") == "mlm":
        found["head"]["activation"] = activation
    return {**table, "kind": kind_of(config), **found}


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
    config=config_writer(
        KEYS, architecture_of("BigBird", "ForCausalLM"), attention_type="original_full"
    ),
    renames=(*TENSORFLOW_NAMES, prefixed("bert.", *HEADS)),
    **bert_extras("bert."),
)
