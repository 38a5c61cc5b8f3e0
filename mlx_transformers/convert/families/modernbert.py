"""ModernBERT: local and global attention by turns, a base of positions for each, GeGLU.

Defaults are those of `ModernBertConfig`.
"""

from ..answers import Answer, asked, n_labels, task_of
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..pattern import FULL, SLIDING, attended, layer_types
from ..rope import rope, rotary_by_layer
from ..transforms import Split
from ..view import Told, View, activation, biased, first_of, spelled
from ..weights import Row, rows
from .bert import TOWER

HF_BLOCK = "model.layers.{i}"
BLOCK = "stack.blocks.{i}"
NAMES = {FULL: "global", SLIDING: "local"}
THETA = {FULL: 160000.0, SLIDING: 10000.0}
POOLINGS = {"cls": "first", "mean": "mean"}
"""Their poolings, and which vector ours reads."""


def model(config: HfConfig) -> Table:
    """The `[model]` table of a ModernBertConfig."""
    return tower(config) | answer(config).tables()


def tower(config: HfConfig) -> Table:
    """The table without its head and its pool."""
    config.ignore("deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index")
    config.ignore("layer_norm_eps", "position_embedding_type")  # BERT's, which no code reads
    config.ignore("initializer_cutoff_factor", "reference_compile", "repad_logits_with_grad")
    norm = norm_of(config)
    types = types_of(config)
    blocks: Table = {NAMES[kind]: block(config, kind) for kind in sorted(set(types[1:]))}
    # The embeddings are normalised already.
    blocks["first"] = block(config, types[0]) | {"norm": {"kind": "none"}, "ffn_norm": norm}
    return {
        "kind": "encoder",
        "dim": config.get("hidden_size", 768),
        "n_layers": len(types),
        "max_seq_len": config.get("max_position_embeddings", 8192),
        "vocab_size": config.get("vocab_size", 50368),
        "embed": {
            "kind": "token",
            "norm": norm,
            "dropout": float(config.get("embedding_dropout", 0.0)),
        },
        "position": position(config, FULL),
        "block": block(config, FULL),
        "blocks": blocks,
        "pattern": ["first", *(NAMES[kind] for kind in types[1:])],
        "norm": norm,
        "init": {
            "kind": "normal",
            "std": config.get("initializer_range", 0.02),
            "depth_scaled": True,
        },
    }


def types_of(config: HfConfig) -> list[str]:
    """What each layer attends to."""
    config.assume(num_hidden_layers=22)
    every = config.get("global_attn_every_n_layers", 3)
    return layer_types(config, lambda i: SLIDING if i % every else FULL)


def norm_of(config: HfConfig) -> Table:
    """The layer norm of the whole model."""
    bias = config.get("norm_bias", False)
    return {"kind": "layer_norm", "eps": config.get("norm_eps", 1e-5), "bias": bias}


def position(config: HfConfig, kind: str) -> Table:
    """The rotary positions of a type of layer."""
    key = "global_rope_theta" if kind == FULL else "local_rope_theta"
    return rope(config, theta=THETA[kind], layer=kind, theta_key=key)


def block(config: HfConfig, kind: str) -> Table:
    """A layer of a type."""
    bias = config.get("attention_bias", False)
    mixer: Table = {
        "kind": "attention",
        "n_heads": config.get("num_attention_heads", 12),
        "bias": bias,
        "out_bias": bias,
        "dropout": float(config.get("attention_dropout", 0.0)),
    }
    reach = config.get("local_attention", 128) // 2
    ffn = {
        "kind": "glu",
        "hidden_dim": config.get("intermediate_size", 1152),
        "activation": config.activation("hidden_activation", "gelu"),
        "bias": config.get("mlp_bias", False),
        "dropout": float(config.get("mlp_dropout", 0.0)),
    }
    positions = position(config, SLIDING)
    local: Table = {} if kind == FULL else {"position": positions}
    if kind == SLIDING:
        # Tokens up to `reach` away are seen: ours counts the token itself.
        mixer["window"] = reach + 1
    return {"placement": "pre", "norm": norm_of(config), **local, "mixer": mixer, "ffn": ffn}


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of ModernBERT's: all but the bare model map, activate, normalise.

    Raises:
        ConvertError: a task or a pooling that isn't built.
    """
    task = task_of(config, "ForMaskedLM")
    config.ignore("classifier_pooling", "classifier_bias", "classifier_activation", "decoder_bias")
    shared: Table = {
        "activation": config.activation("classifier_activation", "gelu"),
        "map_bias": config.get("classifier_bias", False),
        "norm": norm_of(config),
    }
    if task == "Model":
        return Answer()
    if task == "ForMaskedLM":
        tied, bias = config.get("tie_word_embeddings", True), config.get("decoder_bias", True)
        head = {"kind": "mlm", "tied": tied, "bias": bias, **shared}
        theirs = ("head.{dense,norm}", "decoder.{weight,bias}")
        found = [*rows("head.{map,norm}", theirs[0]), *rows("head.{weight,bias}", theirs[1])]
        return Answer(head, None, found)
    slot = "head" if task in ("ForTokenClassification", "ForQuestionAnswering") else "pool"
    found = rows(f"{slot}.{{map,norm,out}}", "{head.dense,head.norm,classifier}")
    if slot == "head":
        return Answer({"kind": "tags", "n_classes": n_labels(config), **shared}, None, found)
    if (pooling := config.get("classifier_pooling", "cls")) not in POOLINGS:
        raise config.refuse("classifier_pooling", pooling, "'cls' and 'mean' are")
    pool = {
        "kind": "classifier",
        "n_classes": n_labels(config),
        "reads": POOLINGS[pooling],
        "dropout": float(config.get("classifier_dropout", 0.0)),
        **shared,
    }
    return Answer(None, pool, found)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a ModernBERT."""
    return [*tower_weights(config), *answer(config).rows]


def tower_weights(config: HfConfig) -> list[Row]:
    """The rows of all but its head and its pool."""
    dim, hidden = config.get("hidden_size", 768), config.get("intermediate_size", 1152)
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


KEYS: dict[str, Told] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "hidden_activation": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "norm_eps": "norm.eps",
    "norm_bias": "norm.bias",
    "attention_bias": biased,
    "attention_dropout": "block.mixer.dropout",
    "embedding_dropout": "embed.dropout",
    "mlp_bias": "block.ffn.bias",
    "mlp_dropout": "block.ffn.dropout",
    "initializer_range": "init.std",
    "layer_types": attended,
    "classifier_activation": activation("head.activation", "pool.activation"),
    "classifier_bias": lambda view: first_of(view, "head.map_bias", "pool.map_bias"),
    "classifier_pooling": lambda view: "mean" if view.get("pool.reads") == "mean" else "cls",
    "decoder_bias": "head.bias",
    "tie_word_embeddings": TOWER["tie_word_embeddings"],
}


def local(view: View) -> Table:
    """How many tokens a layer with a window sees, the token itself and as many on both sides."""
    window = view.get("block.mixer.window")
    return {} if window is None else {"local_attention": 2 * (window - 1)}


MODERNBERT = Family(
    model_types=("modernbert",),
    architecture="ModernBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled(
        KEYS,
        local,
        rotary_by_layer("global_rope_theta", "local_rope_theta"),
        asked("ModernBert"),
        # Their defaults are numbers of a vocabulary of 50,368.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id")),
    ),
    renames=(prefixed("model.", "head.", "decoder.", "classifier."),),
    spare=(r"^head\.", r"^decoder\."),
    tied=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
)
