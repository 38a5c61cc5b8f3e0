"""ALBERT: layers that share weights, a factorised embedding, the order of two sentences.

Defaults are those of `AlbertConfig`.
"""

from ..answers import Answer, asked, classifier, pooled, tags, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import View, spelled
from ..weights import Row, rows
from .bert import TOWER, around, tower, word_rows, words

POOLER = "albert.pooler"


def model(config: HfConfig) -> Table:
    """The `[model]` table of an AlbertConfig."""
    config.ignore(
        "layers_to_keep", "net_structure_type", "gap_size", "num_memory_blocks", "down_scale_factor"
    )
    table = tower(
        config,
        vocab_size=30000,
        dim=4096,
        n_heads=64,
        hidden_dim=16384,
        activation="gelu_new",
        dropout=0.0,
    )
    table["embed"] |= {"width": config.get("embedding_size", 128), "project_bias": True}
    groups, inner = config.get("num_hidden_groups", 1), config.get("inner_group_num", 1)
    table["n_layers"] *= inner
    shared: Table = {"n_distinct": groups * inner}
    if inner > 1:
        shared["unit"] = inner
    return table | shared | answer(config).tables()


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of ALBERT's."""
    task, rate = task_of(config, "ForPreTraining"), config.get("classifier_dropout_prob", 0.1)
    match task:
        case "Model":
            return pooled(POOLER)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return tags(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, POOLER, "classifier", dropout=rate)
        case "ForPreTraining" | "ForMaskedLM":
            width, activation = config.get("embedding_size", 128), "gelu_new"
            head = words(config, config.activation("hidden_act", activation)) | {"width": width}
            found = word_rows("predictions.", "predictions.", "dense", "LayerNorm", config)
            if task == "ForMaskedLM":
                return Answer(head, None, found)
            order = classifier(config, POOLER, "sop_classifier.classifier", dropout=rate)
            return Answer(head, order.pool, [*found, *order.rows])
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an ALBERT."""
    groups, inner = config.get("num_hidden_groups", 1), config.get("inner_group_num", 1)
    return [
        *around("albert."),
        Row("embed.project", "albert.encoder.embedding_hidden_mapping_in"),
        *(row for g in range(groups) for i in range(inner) for row in layer(g, i, g * inner + i)),
        *answer(config).rows,
    ]


def layer(group: int, inner: int, number: int) -> list[Row]:
    """The tensors of one of the layers that have weights of their own."""
    theirs = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
    ours = f"stack.blocks.{number}"
    return [
        *rows(f"{ours}.mixer.{{q,k,v,o}}", f"{theirs}.attention.{{query,key,value,dense}}"),
        Row(f"{ours}.mixer_residual.out", f"{theirs}.attention.LayerNorm"),
        *rows(f"{ours}.ffn.{{up,down}}", f"{theirs}.{{ffn,ffn_output}}"),
        Row(f"{ours}.ffn_residual.out", f"{theirs}.full_layer_layer_norm"),
    ]


def grouped(view: View) -> Table:
    """How layers share weights: groups of as many as run one after the other."""
    inner, layers = view.get("unit"), view.get("n_layers")
    return {
        "num_hidden_layers": layers // inner,
        "num_hidden_groups": (view.get("n_distinct") or layers) // inner,
        "inner_group_num": inner,
    }


ALBERT = Family(
    model_types=("albert",),
    architecture="AlbertForPreTraining",
    model=model,
    weights=weights,
    config=spelled({**TOWER, "embedding_size": "embed.width"}, grouped, asked("Albert")),
    renames=(prefixed("albert.", "predictions.", "sop_classifier.", "classifier.", "qa_outputs."),),
    spare=(r"^albert\.pooler\.", r"^predictions\.", r"^sop_classifier\."),
    tied=(
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ),
)
