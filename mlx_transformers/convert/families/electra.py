"""ELECTRA: BERT's layers over an embedding of its own width; generator and discriminator.

Defaults are those of `ElectraConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import Row, rows
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from .bert import ENCODER_KEYS, TENSORFLOW_NAMES, class_dropout, layers, mlm_head, outer_rows, tower


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an ElectraConfig."""
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_last_dropout", "summary_proj_to_labels", "summary_first_dropout")
    table = tower(config)
    width = config.get("embedding_size")
    if width != table["dim"]:
        table["embed"] |= {"width": width, "project_bias": True}
    return table | task_head(config).tables()


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of ELECTRA's."""
    match task := task_of(config, "ForPreTraining"):
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            rate = class_dropout(config)
            names = ("classifier.dense", "classifier.out_proj")
            return classifier(config, *names, dropout=rate, activation="gelu")
        case "ForMultipleChoice":
            config.expect("summary_type", "first")
            config.expect("summary_use_proj", True)
            config.expect("summary_proj_to_labels", False)
            names = ("sequence_summary.summary", "classifier")
            rate = float(config.get("summary_last_dropout"))
            activation = config.activation("summary_activation")
            return classifier(config, *names, dropout=rate, activation=activation)
        case "ForPreTraining":
            activation = config.activation("hidden_act")
            head = {"kind": "tags", "n_classes": 1, "activation": activation}
            theirs = "discriminator_predictions.{dense,dense_prediction}"
            return TaskHead(head, None, rows("head.{map,out}", theirs))
        case "ForMaskedLM":
            return TaskHead(
                mlm_head(config, "gelu") | {"width": config.get("embedding_size")},
                None,
                [
                    *rows("head.{map,norm}", "generator_predictions.{dense,LayerNorm}"),
                    *rows("head.{weight,bias}", "generator_lm_head.{weight,bias}"),
                ],
            )
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an ELECTRA."""
    return [
        *outer_rows("electra."),
        Row("embed.project", "electra.embeddings_project"),
        *layers("electra.encoder.layer.{i}"),
        *task_head(config).rows,
    ]


HEADS = ("generator_", "discriminator_", "classifier.", "qa_outputs.", "sequence_summary.")


def width(view: FlatModel) -> int:
    """Return the width of the embedding."""
    width: int = view.get("embed.width") or view.get("dim")
    return width


def judged(view: FlatModel) -> Table:
    """Return the class: a head with one class per token is the discriminator."""
    judges = view.get("head.kind") == "tags" and view.get("head.n_classes") == 1
    return (
        {"architectures": ["ElectraForPreTraining"]} if judges else architecture_of("Electra")(view)
    )


ELECTRA = Family(
    model_types=("electra",),
    architecture="ElectraForPreTraining",
    model=model,
    weights=weights,
    config=config_writer({**ENCODER_KEYS, "embedding_size": width}, judged),
    renames=(*TENSORFLOW_NAMES, prefixed("electra.", *HEADS)),
    spare=(r"^generator_", r"^discriminator_"),
    tied=(("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),),
)
