"""XLM and FlauBERT: BERT's blocks, whose tensors are listed by kind, and a plain head over words.

Defaults are those of `XLMConfig` and `FlaubertConfig`.
"""

from collections.abc import Callable

from ..config import HfConfig
from ..decoder import mlp
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..task_heads import TaskHead, classifier, label_names, task_of, token_classifier

T = "transformer."
WORDS = "WithLMHeadModel"
CLASSES = {"lm": WORDS, "tags": "ForTokenClassification", "classifier": "ForSequenceClassification"}


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an XLMConfig or a FlaubertConfig."""
    # beams of another head; the number of a language and of tokens; how tables begin
    config.ignore("start_n_top", "end_n_top", "lang_id", "lang2id", "id2lang")
    config.ignore("sinusoidal_embeddings")
    config.ignore("unk_index", "mask_index", "bos_index", "eos_index", "pad_index", "n_words")
    config.ignore("embed_init_std", "layerdrop", "encoder", "share_inout_emb")
    config.expect("asm", False)
    config.expect("is_encoder", True)
    if config.get("use_lang_emb"):
        config.expect("n_langs", 1)
    config.ignore("n_langs")
    dim, rate = config.get("emb_dim"), float(config.get("dropout"))
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}
    mixer = {
        "kind": "attention",
        "n_heads": config.get("n_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    activation = "gelu" if config.get("gelu_activation") else "relu"
    return {
        "kind": "decoder" if config.get("causal") else "encoder",
        "dim": dim,
        "n_layers": config.get("n_layers"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token", "norm": norm, "dropout": rate},
        "position": {"kind": "learned"},
        "block": {
            "placement": "pre" if config.optional("pre_norm") else "post",
            "dropout": rate,
            "norm": norm,
            "mixer": mixer,
            "ffn": mlp(4 * dim, activation),
        },
        "norm": {"kind": "none"},
        "init": {"kind": "normal", "std": config.get("init_std")},
        **task_head(config).tables(),
    }


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of XLM's.

    Raises:
        ConvertError: a summary that isn't built.
    """
    tied = config.get("tie_word_embeddings")
    language_model = "LMHeadModel"
    task = task_of(config, language_model, language_model, "ForQuestionAnsweringSimple")
    summary = ("summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_type")
    config.ignore(*summary, "summary_first_dropout", "summary_last_dropout")
    match task:
        case "Model":
            return TaskHead()
        case "ForTokenClassification" | "ForQuestionAnsweringSimple":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            for key, value in zip(summary, (True, None, True, "first"), strict=True):
                config.expect(key, value)
            rate = float(config.get("summary_first_dropout"))
            return classifier(config, None, "sequence_summary.summary", dropout=rate)
    if task != language_model:
        raise config.refuse("architectures", config.architecture)
    head = {"kind": "lm", "tied": tied, "bias": True}
    return TaskHead(head, None, [Row("head", "pred_layer.proj")])


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an XLM."""
    attention, ffn = f"{T}attentions.{{i}}", f"{T}ffns.{{i}}"
    norms = "{mixer_residual,ffn_residual}"
    return [
        Row("embed.table", f"{T}embeddings"),
        Row("embed.norm", f"{T}layer_norm_emb"),
        Row("position.table", f"{T}position_embeddings"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{attention}.{{q,k,v,out}}_lin"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{ffn}.{{lin1,lin2}}"),
        *(
            row
            for place in ("out", "pre")
            for row in rows(f"{BLOCK}.{norms}.{place}", f"{T}{{layer_norm1,layer_norm2}}.{{i}}")
        ),
        *task_head(config).rows,
    ]


def writer(title: str) -> Callable[[FlatModel], Table]:
    """Return a writer of the class of a model, and of whether it is causal."""

    def of(view: FlatModel) -> Table:
        kind = view.get("head.kind") if view.has("head.kind") else view.get("pool.kind")
        name = CLASSES.get(kind, "Model")
        count = view.get("head.n_classes" if kind == "tags" else "pool.n_classes")
        labels = label_names(count) if kind in ("tags", "classifier") else {}
        return {
            "architectures": [f"{title}{name}"],
            "causal": view.get("kind") == "decoder",
            "gelu_activation": view.get("block.ffn.activation") == "gelu",
            **labels,
        }

    return of


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "emb_dim": "dim",
    "n_layers": "n_layers",
    "n_heads": "block.mixer.n_heads",
    "dropout": "block.dropout",
    "attention_dropout": "block.mixer.dropout",
    "max_position_embeddings": "max_seq_len",
    "layer_norm_eps": "block.norm.eps",
    "init_std": "init.std",
    "tie_word_embeddings": "head.tied",
}


def family(name: str, title: str, **more: PathOrFn) -> Family:
    """Return a family in XLM's layout."""
    return Family(
        model_types=(name,),
        architecture=f"{title}{WORDS}",
        model=model,
        weights=weights,
        config=config_writer({**KEYS, **more}, writer(title)),
        renames=(prefixed(T, "pred_layer.", "classifier.", "qa_outputs.", "sequence_summary."),),
        tied=(("pred_layer.proj.weight", f"{T}embeddings.weight"),),
        spare=(r"^pred_layer\.",),
    )


XLM = family("xlm", "XLM")
FLAUBERT = family(
    "flaubert", "Flaubert", pre_norm=lambda view: view.get("block.placement") == "pre"
)
