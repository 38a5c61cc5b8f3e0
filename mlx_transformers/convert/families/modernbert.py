"""ModernBERT: local and global attention by turns, a base of positions for each, GeGLU.

Defaults are those of `ModernBertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import SIZES, FlatModel, PathOrFn, activation, biased, config_writer, first_of
from ..layer_types import FULL, SLIDING, layer_types, layer_types_of
from ..rope import rope, rotary_by_layer
from ..rows import BLOCK, Row, rows
from ..task_heads import TaskHead, architecture_of, n_labels, task_of
from ..transforms import Split
from .bert import ENCODER_KEYS

HF_BLOCK = "model.layers.{i}"
LAYER_NAMES = {FULL: "global", SLIDING: "local"}
THETAS = {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
"""Bases of layers without and with a window; the config class derives them."""
POOLINGS = {"cls": "first", "mean": "mean"}
"""Their poolings, and which vector ours reads."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a ModernBertConfig."""
    return tower(config) | task_head(config).tables()


def tower(config: HfConfig) -> Table:
    """Return the table without head and pool."""
    config.ignore("deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index")
    config.ignore("layer_norm_eps", "position_embedding_type")  # BERT's, which no code reads
    config.ignore("initializer_cutoff_factor", "reference_compile", "repad_logits_with_grad")
    norm = norm_of(config)
    types = types_of(config)
    blocks: Table = {LAYER_NAMES[kind]: block(config, kind) for kind in sorted(set(types[1:]))}
    # The embeddings are normalised already.
    blocks["first"] = block(config, types[0]) | {"norm": {"kind": "none"}, "ffn_norm": norm}
    return {
        "kind": "encoder",
        "dim": config.get("hidden_size"),
        "n_layers": len(types),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {
            "kind": "token",
            "norm": norm,
            "dropout": float(config.get("embedding_dropout")),
        },
        "position": position(config, FULL),
        "block": block(config, FULL),
        "blocks": blocks,
        "pattern": ["first", *(LAYER_NAMES[kind] for kind in types[1:])],
        "norm": norm,
        "init": {
            "kind": "normal",
            "std": config.get("initializer_range"),
            "depth_scaled": True,
        },
    }


def types_of(config: HfConfig) -> list[str]:
    """Return the attention type of each layer."""
    every = config.get("global_attn_every_n_layers")
    return layer_types(config, lambda i: SLIDING if i % every else FULL)


def norm_of(config: HfConfig) -> Table:
    """Return the layer norm of the whole model."""
    bias = config.get("norm_bias")
    return {"kind": "layer_norm", "eps": config.get("norm_eps"), "bias": bias}


def position(config: HfConfig, kind: str) -> Table:
    """Return the rotary positions of a type of layer."""
    key = "global_rope_theta" if kind == FULL else "local_rope_theta"
    return rope(config, layer=kind, theta_key=key)


def block(config: HfConfig, kind: str) -> Table:
    """Return the block of a type of layer."""
    bias = config.get("attention_bias")
    mixer: Table = {
        "kind": "attention",
        "n_heads": config.get("num_attention_heads"),
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout")),
    }
    reach = config.get("local_attention") // 2
    ffn = {
        "kind": "glu",
        "hidden_dim": config.get("intermediate_size"),
        "activation": config.activation("hidden_activation"),
        "bias": config.get("mlp_bias"),
        "dropout": float(config.get("mlp_dropout")),
    }
    positions = position(config, SLIDING)
    local: Table = {} if kind == FULL else {"position": positions}
    if kind == SLIDING:
        # Tokens up to `reach` away are seen: ours counts the token itself.
        mixer["window"] = reach + 1
    return {"placement": "pre", "norm": norm_of(config), **local, "mixer": mixer, "ffn": ffn}


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of ModernBERT's.

    All but the bare model have a linear layer, an activation and a norm first.

    Raises:
        ConvertError: a task or a pooling that isn't built.
    """
    task = task_of(config, "ForMaskedLM")
    config.ignore("classifier_pooling", "classifier_bias", "classifier_activation", "decoder_bias")
    shared: Table = {
        "activation": config.activation("classifier_activation"),
        "map_bias": config.get("classifier_bias"),
        "norm": norm_of(config),
    }
    if task == "Model":
        return TaskHead()
    if task == "ForMaskedLM":
        tied, bias = config.get("tie_word_embeddings"), config.get("decoder_bias")
        head = {"kind": "mlm", "tied": tied, "bias": bias, **shared}
        theirs = ("head.{dense,norm}", "decoder.{weight,bias}")
        weight_map = [*rows("head.{map,norm}", theirs[0]), *rows("head.{weight,bias}", theirs[1])]
        return TaskHead(head, None, weight_map)
    slot = "head" if task in ("ForTokenClassification", "ForQuestionAnswering") else "pool"
    weight_map = rows(f"{slot}.{{map,norm,out}}", "{head.dense,head.norm,classifier}")
    if slot == "head":
        return TaskHead({"kind": "tags", "n_classes": n_labels(config), **shared}, None, weight_map)
    if (pooling := config.get("classifier_pooling")) not in POOLINGS:
        raise config.refuse("classifier_pooling", pooling, "'cls' and 'mean' are")
    pool = {
        "kind": "classifier",
        "n_classes": n_labels(config),
        "reads": POOLINGS[pooling],
        "dropout": float(config.get("classifier_dropout")),
        **shared,
    }
    return TaskHead(None, pool, weight_map)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a ModernBERT."""
    return [*tower_weights(config), *task_head(config).rows]


def tower_weights(config: HfConfig) -> list[Row]:
    """Return the rows of all but its head and its pool."""
    dim, hidden = config.get("hidden_size"), config.get("intermediate_size")
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "model.embeddings.tok_embeddings"),
        Row("embed.norm", "model.embeddings.norm"),
        Row("norm", "model.final_norm"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{HF_BLOCK}.attn_norm"),
        Row(qkv, f"{HF_BLOCK}.attn.Wqkv", Split((dim, dim, dim))),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attn.Wo"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{HF_BLOCK}.mlp_norm"),
        Row(
            (f"{BLOCK}.ffn.gate", f"{BLOCK}.ffn.up"), f"{HF_BLOCK}.mlp.Wi", Split((hidden, hidden))
        ),
        Row(f"{BLOCK}.ffn.down", f"{HF_BLOCK}.mlp.Wo"),
    ]


KEYS: dict[str, PathOrFn] = {
    **SIZES,
    "hidden_activation": activation("block.ffn.activation"),
    "norm_eps": "norm.eps",
    "norm_bias": "norm.bias",
    "attention_bias": biased,
    "attention_dropout": "block.mixer.dropout",
    "embedding_dropout": "embed.dropout",
    "mlp_bias": "block.ffn.bias",
    "mlp_dropout": "block.ffn.dropout",
    "layer_types": layer_types_of,
    "classifier_activation": activation("head.activation", "pool.activation"),
    "classifier_bias": lambda view: first_of(view, "head.map_bias", "pool.map_bias"),
    "classifier_pooling": lambda view: "mean" if view.get("pool.reads") == "mean" else "cls",
    "decoder_bias": "head.bias",
    "tie_word_embeddings": ENCODER_KEYS["tie_word_embeddings"],
}


def local(view: FlatModel) -> Table:
    """Return the number of tokens that a local layer sees, on both sides."""
    window = view.get("block.mixer.window")
    return {} if window is None else {"local_attention": 2 * (window - 1)}


MODERNBERT = Family(
    model_types=("modernbert",),
    architecture="ModernBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        KEYS,
        local,
        rotary_by_layer("global_rope_theta", "local_rope_theta"),
        architecture_of("ModernBert"),
        # Their defaults are numbers of a vocabulary of 50,368.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id")),
    ),
    defaults=THETAS,
    renames=(prefixed("model.", "head.", "decoder.", "classifier."),),
    spare=(r"^head\.", r"^decoder\."),
    tied=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
)
