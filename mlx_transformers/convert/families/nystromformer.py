"""Nyströmformer: BERT with attention by way of landmarks. Defaults: `NystromformerConfig`.

The reference has exact attention where `num_landmarks` equals `segment_means_seq_len`, as in the
published models; otherwise it reads sequences of `segment_means_seq_len` tokens alone.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import BLOCK, Row
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from ..transforms import Reshape
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    bert_extras,
    class_dropout,
    layers,
    mlm_head,
    mlm_rows,
    outer_rows,
    tower,
)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a NystromformerConfig."""
    config.expect("inv_coeff_init_option", False)
    table = tower(config)
    table["block"]["mixer"].pop("dropout")
    config.ignore("attention_probs_dropout_prob")  # the reference never applies it
    exact = config.get("num_landmarks") == config.get("segment_means_seq_len")
    table["position"] = {"kind": "learned", "offset": 2}
    table["block"]["mixer"] |= {
        "kind": "nystrom",
        "n_landmarks": table["max_seq_len"] if exact else config.get("num_landmarks"),
        "kernel": config.get("conv_kernel_size"),
        "masked": "keys",
        "start": "batch",
    }
    return table | head(config).tables()


def head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of Nyströmformer's, which has no pooler."""
    match task := task_of(config, "ForMaskedLM"):
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            rate = class_dropout(config)
            options: Table = {"activation": config.activation("hidden_act"), "dropout": rate}
            return classifier(config, "classifier.dense", "classifier.out_proj", **options)
        case "ForMultipleChoice":
            return classifier(config, "pre_classifier", "classifier", activation="relu")
        case "ForMaskedLM":
            base = "cls.predictions."
            rows = mlm_rows(base + "transform.", base, "dense", "LayerNorm", config)
            return TaskHead(mlm_head(config), None, rows)
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Nyströmformer."""
    theirs, size = "nystromformer.encoder.layer.{i}", config.get("conv_kernel_size")
    n_heads = config.get("num_attention_heads")
    conv = Reshape((n_heads, 1, size or 1, 1), (n_heads, size or 1))
    return [
        *outer_rows("nystromformer."),
        *layers(theirs),
        Row(f"{BLOCK}.mixer.conv", f"{theirs}.attention.self.conv.weight", conv),
        *head(config).rows,
    ]


def landmarks(view: FlatModel) -> Table:
    """Return the keys of the landmarks.

    Raises:
        ConvertError: the pseudo-inverse or its padding isn't the published one.
    """
    published = {"start": "batch", "masked": "keys", "iterations": 6}
    for name, value in published.items():
        if view.get(f"block.mixer.{name}") != value:
            raise ConvertError(
                f"A published Nyströmformer has mixer.{name} = {value!r}. Train with that value, "
                "or keep the model in this format."
            )
    number, length = view.get("block.mixer.n_landmarks"), view.get("max_seq_len")
    exact = number >= length
    return {
        "num_landmarks": length if exact else number,
        "segment_means_seq_len": length if exact else length // number * number,
        "conv_kernel_size": view.get("block.mixer.kernel"),
    }


NYSTROMFORMER = Family(
    model_types=("nystromformer",),
    architecture="NystromformerForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {k: v for k, v in ENCODER_KEYS.items() if k != "attention_probs_dropout_prob"},
        landmarks,
        architecture_of("Nystromformer"),
    ),
    renames=(*TENSORFLOW_NAMES, prefixed("nystromformer.", *HEADS, "pre_classifier.")),
    **bert_extras("nystromformer."),
)
