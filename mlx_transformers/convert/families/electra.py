"""ELECTRA: BERT's layers over an embedding of its own width; generator and discriminator.

Defaults are those of `ElectraConfig`.
"""

from ..answers import Answer, asked, classifier, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import View, spelled
from ..weights import Row, rows
from .bert import NAMES, TOWER, around, class_dropout, layers, tower, words


def model(config: HfConfig) -> Table:
    """The `[model]` table of an ElectraConfig."""
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_last_dropout", "summary_proj_to_labels", "summary_first_dropout")
    table = tower(config, vocab_size=30522, dim=256, n_heads=4, hidden_dim=1024)
    width = config.get("embedding_size", 128)
    if width != table["dim"]:
        table["embed"] |= {"width": width, "project_bias": True}
    return table | answer(config).tables()


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of ELECTRA's."""
    match task := task_of(config, "ForPreTraining"):
        case "Model":
            return Answer()
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification":
            rate = class_dropout(config)
            names = ("classifier.dense", "classifier.out_proj")
            return classifier(config, *names, dropout=rate, activation="gelu")
        case "ForMultipleChoice":
            config.expect("summary_type", "first", default="first")
            config.expect("summary_use_proj", True, default=True)
            config.expect("summary_proj_to_labels", False)
            names, told = ("sequence_summary.summary", "classifier"), "summary_activation"
            rate = float(config.get("summary_last_dropout", 0.1))
            activation = config.activation(told, "gelu")
            return classifier(config, *names, dropout=rate, activation=activation)
        case "ForPreTraining":
            activation = config.activation("hidden_act", "gelu")
            head = {"kind": "tags", "n_classes": 1, "activation": activation}
            theirs = "discriminator_predictions.{dense,dense_prediction}"
            return Answer(head, None, rows("head.{map,out}", theirs))
        case "ForMaskedLM":
            return Answer(
                words(config, "gelu") | {"width": config.get("embedding_size", 128)},
                None,
                [
                    *rows("head.{map,norm}", "generator_predictions.{dense,LayerNorm}"),
                    *rows("head.{weight,bias}", "generator_lm_head.{weight,bias}"),
                ],
            )
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an ELECTRA."""
    return [
        *around("electra."),
        Row("embed.project", "electra.embeddings_project"),
        *layers("electra.encoder.layer.{i}"),
        *answer(config).rows,
    ]


HEADS = ("generator_", "discriminator_", "classifier.", "qa_outputs.", "sequence_summary.")


def width(view: View) -> int:
    """The width of the embedding."""
    found: int = view.get("embed.width") or view.get("dim")
    return found


def judged(view: View) -> Table:
    """The class: what tells two things apart of every token is the discriminator."""
    judges = view.get("head.kind") == "tags" and view.get("head.n_classes") == 1
    return {"architectures": ["ElectraForPreTraining"]} if judges else asked("Electra")(view)


ELECTRA = Family(
    model_types=("electra",),
    architecture="ElectraForPreTraining",
    model=model,
    weights=weights,
    config=spelled({**TOWER, "embedding_size": width}, judged),
    renames=(*NAMES, prefixed("electra.", *HEADS)),
    spare=(r"^generator_", r"^discriminator_"),
    tied=(("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),),
)
