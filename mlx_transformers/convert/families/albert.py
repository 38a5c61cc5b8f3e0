"""ALBERT: layers that share weights, a factorised embedding, the order of two sentences.

Defaults are those of `AlbertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import Row, rows
from ..task_heads import (
    TaskHead,
    architecture_of,
    classifier,
    pooler_head,
    task_of,
    token_classifier,
)
from .bert import ENCODER_KEYS, mlm_head, mlm_rows, outer_rows, tower

POOLER = "albert.pooler"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an AlbertConfig."""
    config.ignore(
        "layers_to_keep", "net_structure_type", "gap_size", "num_memory_blocks", "down_scale_factor"
    )
    table = tower(config)
    table["embed"] |= {"width": config.get("embedding_size"), "project_bias": True}
    groups, inner = config.get("num_hidden_groups"), config.get("inner_group_num")
    table["n_layers"] *= inner
    shared: Table = {"n_distinct": groups * inner}
    if inner > 1:
        shared["unit"] = inner
    return table | shared | task_head(config).tables()


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of ALBERT's."""
    task, rate = task_of(config, "ForPreTraining"), config.get("classifier_dropout_prob")
    match task:
        case "Model":
            return pooler_head(POOLER)
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification" | "ForMultipleChoice":
            return classifier(config, POOLER, "classifier", dropout=rate)
        case "ForPreTraining" | "ForMaskedLM":
            head = mlm_head(config) | {"width": config.get("embedding_size")}
            weight_map = mlm_rows("predictions.", "predictions.", "dense", "LayerNorm", config)
            if task == "ForMaskedLM":
                return TaskHead(head, None, weight_map)
            order = classifier(config, POOLER, "sop_classifier.classifier", dropout=rate)
            return TaskHead(head, order.pool, [*weight_map, *order.rows])
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an ALBERT."""
    groups, inner = config.get("num_hidden_groups"), config.get("inner_group_num")
    return [
        *outer_rows("albert."),
        Row("embed.project", "albert.encoder.embedding_hidden_mapping_in"),
        *(row for g in range(groups) for i in range(inner) for row in layer(g, i, g * inner + i)),
        *task_head(config).rows,
    ]


def layer(group: int, inner: int, number: int) -> list[Row]:
    """Return the tensors of one of the layers that have weights of their own."""
    theirs = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
    ours = f"stack.blocks.{number}"
    return [
        *rows(f"{ours}.mixer.{{q,k,v,o}}", f"{theirs}.attention.{{query,key,value,dense}}"),
        Row(f"{ours}.mixer_residual.out", f"{theirs}.attention.LayerNorm"),
        *rows(f"{ours}.ffn.{{up,down}}", f"{theirs}.{{ffn,ffn_output}}"),
        Row(f"{ours}.ffn_residual.out", f"{theirs}.full_layer_layer_norm"),
    ]


def grouped(view: FlatModel) -> Table:
    """Return how layers share weights: groups of `unit` consecutive layers."""
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
    config=config_writer(
        {**ENCODER_KEYS, "embedding_size": "embed.width"}, grouped, architecture_of("Albert")
    ),
    renames=(prefixed("albert.", "predictions.", "sop_classifier.", "classifier.", "qa_outputs."),),
    spare=(r"^albert\.pooler\.", r"^predictions\.", r"^sop_classifier\."),
    tied=(
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ),
)
