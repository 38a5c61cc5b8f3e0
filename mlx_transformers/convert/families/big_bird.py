"""BigBird where its attention is full: BERT's layers, a head for sequences of its own.

Zaheer et al. 2020. Defaults are those of `BigBirdConfig`.
"""

from ..answers import Answer, asked, classifier, pooled, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import spelled
from ..weights import Row
from .bert import (
    CAUSAL,
    HEADS,
    NAMES,
    TOWER,
    around,
    bert_answer,
    bert_extras,
    class_dropout,
    kind_of,
    layers,
    tower,
)


def model(config: HfConfig) -> Table:
    """The `[model]` table of a BigBirdConfig.

    Raises:
        ConvertError: texts may be so long that its sparse attention leaves pairs out.
    """
    activation = config.activation("hidden_act", "gelu_new")
    longest = config.get("max_position_embeddings", 4096)
    blocks = 5 + 2 * config.get("num_random_blocks", 3)
    always_full = blocks * config.get("block_size", 64) >= longest
    if config.get("attention_type", "block_sparse") != "original_full" and not always_full:
        raise config.refuse("attention_type", "block_sparse")
    table = tower(config, vocab_size=50358, activation="gelu_new")
    table["max_seq_len"] = longest
    table["block"]["mixer"]["bias"] = config.get("use_bias", True)
    if config.get("rescale_embeddings", False):
        table["embed"]["scale"] = "sqrt_dim"
    found = answer(config).tables()
    if found.get("head", {}).get("kind") == "mlm":
        found["head"]["activation"] = activation
    return {**table, "kind": kind_of(config), **found}


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of BigBird's: BERT's, but for the classifier and the pooler."""
    match task_of(config, "ForPreTraining", *CAUSAL):
        case "Model":
            return pooled("bert.pooler")
        case "ForSequenceClassification":
            return classifier(
                config,
                "classifier.dense",
                "classifier.out_proj",
                activation=config.activation("hidden_act", "gelu_new"),
                dropout=class_dropout(config),
            )
        case "ForQuestionAnswering":
            raise config.refuse("architectures", config.architecture)
    return bert_answer(config, pooler="pooler")


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a BigBird."""
    return [*around("bert."), *layers("bert.encoder.layer.{i}"), *answer(config).rows]


KEYS = {
    **TOWER,
    "use_bias": "block.mixer.bias",
    "rescale_embeddings": lambda view: view.get("embed.scale") == "sqrt_dim",
}

BIG_BIRD = Family(
    model_types=("big_bird",),
    architecture="BigBirdForPreTraining",
    model=model,
    weights=weights,
    config=spelled(KEYS, asked("BigBird", "ForCausalLM"), attention_type="original_full"),
    renames=(*NAMES, prefixed("bert.", *HEADS)),
    **bert_extras("bert."),
)
