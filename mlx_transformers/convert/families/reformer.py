"""Reformer: local and hashed attention, reversible residuals, axial positions.

Defaults are those of `ReformerConfig`. Rotations of hashes are random in the reference too, so
that sequences longer than `lsh_attn_chunk_length` have equal outputs only where all chunks see
each other.
"""

import math
from typing import Any

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import MISSING, FlatModel, PathOrFn, activation, config_writer
from ..rows import BLOCK, Row
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from ..transforms import Reshape

LAYER = "reformer.encoder.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a ReformerConfig."""
    config.ignore("chunk_size_lm_head", "is_decoder", "hash_seed")
    kinds = layer_kinds(config)
    causal, dim = bool(config.optional("is_decoder")), config.get("hidden_size")
    norm = {"kind": "layer_norm", "eps": config.get("layer_norm_eps")}
    rate = float(config.get("hidden_dropout_prob"))
    pad_to = padded_to(config, kinds)
    block: Table = {
        "placement": "pre",
        "dropout": rate,
        "norm": norm,
        "ffn": {
            "kind": "mlp",
            "hidden_dim": config.get("feed_forward_size"),
            "activation": config.activation("hidden_act"),
            "bias": True,
            "dropout": rate,
        },
    }
    mixers = {"local": local(config, causal), "lsh": hashed(config)}
    if pad_to is not None:
        mixers["lsh"]["pad_to"] = pad_to
        mixers["local"] |= {} if causal else {"pad_to": pad_to}
    table = {
        "kind": "decoder" if causal else "encoder",
        "dim": dim,
        "n_layers": len(kinds),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": config.get("vocab_size"),
        "embed": {"kind": "token", "dropout": rate},
        "position": positions(config),
        "reversible": "concatenate",
        "block": block | {"mixer": mixers[kinds[0]]},
        "norm": norm,
        "init": {"kind": "normal", "std": config.get("initializer_range")},
        **head(config).tables(),
    }
    if len(set(kinds)) > 1:
        blocks = {kind: block | {"mixer": mixers[kind]} for kind in sorted(set(kinds))}
        table |= {"blocks": blocks, "pattern": kinds}
    return table


def layer_kinds(config: HfConfig) -> list[str]:
    """Return the kind of each layer; a config may build fewer than it names."""
    kinds: list[str] = list(config.get("attn_layers"))
    count = config.optional("num_hidden_layers") or len(kinds)
    if count > len(kinds):
        raise config.refuse("num_hidden_layers", count, f"attn_layers names {len(kinds)}")
    return kinds[:count]


def padded_to(config: HfConfig, kinds: list[str]) -> int | None:
    """Return the number to whose multiples rows are padded; None: to each layer's own chunks.

    The reference pads rows longer than the smaller chunk to the least common multiple of both.

    Raises:
        ConvertError: a kind of layer that isn't built; or hashed layers would pad rows that are
            shorter than one of their chunks.
    """
    if unknown := sorted(set(kinds) - {"local", "lsh"}):
        raise config.refuse("attn_layers", unknown[0], "only 'local' and 'lsh' are")
    window, chunk = (config.get(f"{kind}_attn_chunk_length") for kind in ("local", "lsh"))
    if len(set(config.get("attn_layers"))) == 1 or window == chunk:
        return None
    if chunk > window and chunk % window:
        raise config.refuse(
            "lsh_attn_chunk_length",
            chunk,
            f"a divisor or a multiple of local_attn_chunk_length = {window} is, or less",
        )
    return math.lcm(window, chunk)


def local(config: HfConfig, causal: bool) -> Table:
    """Return the mixer of a local layer."""
    return {
        "kind": "local_attention",
        "n_heads": config.get("num_attention_heads"),
        "head_dim": config.get("attention_head_size"),
        "window": config.get("local_attn_chunk_length"),
        "look_backward": config.get("local_num_chunks_before"),
        "look_forward": config.get("local_num_chunks_after"),
        "ring": not causal,
        "dropout": float(config.get("local_attention_probs_dropout_prob")),
    }


def hashed(config: HfConfig) -> Table:
    """Return the mixer of a hashed layer."""
    buckets = config.optional("num_buckets") or n_buckets(config)
    return {
        "kind": "lsh_attention",
        "n_heads": config.get("num_attention_heads"),
        "head_dim": config.get("attention_head_size"),
        "chunk": config.get("lsh_attn_chunk_length"),
        "n_hashes": config.get("num_hashes"),
        "n_buckets": list(buckets) if isinstance(buckets, list | tuple) else buckets,
        "before": config.get("lsh_num_chunks_before"),
        "after": config.get("lsh_num_chunks_after"),
        "scale": 1.0,
        "dropout": float(config.get("lsh_attention_probs_dropout_prob") or 0.0),
    }


def n_buckets(config: HfConfig) -> Any:
    """Return the buckets that the reference chooses for its longest sequence."""
    length, chunk = config.get("max_position_embeddings"), config.get("lsh_attn_chunk_length")
    power = max((2 * (length // chunk)).bit_length() - 1, 1)
    if 2**power <= 2 * max(int((length // chunk) ** 0.5), chunk):
        return 2**power
    return [2 ** (power // 2), 2 ** (power - power // 2)]


def positions(config: HfConfig) -> Table:
    """Return the positions: axial ones, or a table."""
    keys = ("axial_pos_shape", "axial_pos_embds_dim", "axial_norm_std")
    if not config.get("axial_pos_embds"):
        config.ignore(*keys)
        return {"kind": "learned"}
    shape, widths, std = (config.get(key) for key in keys)
    return {"kind": "axial", "shape": list(shape), "widths": list(widths), "std": float(std)}


def head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of Reformer's, which read two streams side by side."""
    match task := task_of(config, "ModelWithLMHead", "ModelWithLMHead"):
        case "ForTokenClassification" | "ForQuestionAnswering":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            rate = config.optional("classifier_dropout")
            rate = config.get("hidden_dropout_prob") if rate is None else rate
            options: Table = {"width": config.get("hidden_size"), "dropout": float(rate)}
            return classifier(config, "classifier.dense", "classifier.out_proj", **options)
        case "ModelWithLMHead" | "ForMaskedLM":
            written = {"kind": "lm", "tied": False, "bias": True}
            # older files have the bias under the second name alone, or under both
            separate = not config.tensors or "lm_head.decoder.bias" in config.tensors
            bias = "lm_head.decoder.bias" if separate else "lm_head.bias"
            names = [Row("head.weight", "lm_head.decoder.weight"), Row("head.bias", bias)]
            return TaskHead(written, None, names)
    return TaskHead()


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a Reformer."""
    weight_map = [
        Row("embed.table", "reformer.embeddings.word_embeddings"),
        Row("norm", "reformer.encoder.layer_norm"),
        Row(f"{BLOCK}.mixer.o", f"{LAYER}.attention.output.dense"),
        Row(f"{BLOCK}.mixer.v", f"{LAYER}.attention.self_attention.value"),
        Row(f"{BLOCK}.mixer_residual.pre", f"{LAYER}.attention.layer_norm"),
        Row(f"{BLOCK}.ffn_residual.pre", f"{LAYER}.feed_forward.layer_norm"),
        Row(f"{BLOCK}.ffn.up", f"{LAYER}.feed_forward.dense.dense"),
        Row(f"{BLOCK}.ffn.down", f"{LAYER}.feed_forward.output.dense"),
        *head(config).rows,
    ]
    for i, kind in enumerate(layer_kinds(config)):
        ours, theirs = f"stack.blocks.{i}.mixer", f"{LAYER.replace('{i}', str(i))}.attention"
        names = {"q": "query", "k": "key"} if kind == "local" else {"q": "query_key"}
        weight_map += [
            Row(f"{ours}.{ours_name}", f"{theirs}.self_attention.{their_name}")
            for ours_name, their_name in names.items()
        ]
    places = "reformer.embeddings.position_embeddings"
    if not config.get("axial_pos_embds"):
        return [*weight_map, Row("position.table", f"{places}.embedding")]
    shape, widths = config.get("axial_pos_shape"), config.get("axial_pos_embds_dim")
    for i, (n, width) in enumerate(zip(shape, widths, strict=True)):
        axes = [n if axis == i else 1 for axis in range(len(shape))]
        via = Reshape((*axes, width), (n, width))
        weight_map.append(Row(f"position.table_{i}", f"{places}.weights.{i}", via))
    return weight_map


def layers_of(view: FlatModel) -> Table:
    """Return the keys of attention, of local layers and of hashed ones.

    Raises:
        ConvertError: layers that a Reformer doesn't have.
    """
    names = {"local_attention": "local", "lsh_attention": "lsh"}
    keys: Table = {"attn_layers": [], "num_hidden_layers": len(view.layers)}
    for layer in view.layers:
        mixer = layer["mixer"]
        if mixer["kind"] not in names or view.get("reversible") != "concatenate":
            raise ConvertError(
                "A Reformer has layers of local_attention and lsh_attention, in a stack with "
                "reversible = 'concatenate'."
            )
        keys["attn_layers"].append(names[mixer["kind"]])
        paths = LOCAL if mixer["kind"] == "local_attention" else HASHED
        keys |= {key: mixer[path] for key, path in paths.items()}
    keys["is_decoder"] = view.get("kind") == "decoder"
    return keys


def places(view: FlatModel) -> Table:
    """Return the keys of positions."""
    if view.get("position.kind") == "learned":
        return {"axial_pos_embds": False}
    return {
        "axial_pos_embds": True,
        "axial_pos_shape": view.get("position.shape"),
        "axial_pos_embds_dim": view.get("position.widths"),
        "axial_norm_std": view.get("position.std"),
    }


LOCAL = {
    "attention_head_size": "head_dim",
    "local_attn_chunk_length": "window",
    "local_num_chunks_before": "look_backward",
    "local_num_chunks_after": "look_forward",
    "local_attention_probs_dropout_prob": "dropout",
}
HASHED = {
    "attention_head_size": "head_dim",
    "lsh_attn_chunk_length": "chunk",
    "num_hashes": "n_hashes",
    "num_buckets": "n_buckets",
    "lsh_num_chunks_before": "before",
    "lsh_num_chunks_after": "after",
    "lsh_attention_probs_dropout_prob": "dropout",
}
KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "feed_forward_size": "block.ffn.hidden_dim",
    "num_attention_heads": "block.mixer.n_heads",
    "hidden_act": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "layer_norm_eps": "block.norm.eps",
    "hidden_dropout_prob": "block.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": lambda view: MISSING if view.get("head.tied") is MISSING else False,
}

REFORMER = Family(
    model_types=("reformer",),
    architecture="ReformerModelWithLMHead",
    model=model,
    weights=weights,
    config=config_writer(KEYS, layers_of, places, architecture_of("Reformer", "ModelWithLMHead")),
    renames=(prefixed("reformer.", "lm_head.", "classifier.", "qa_outputs."),),
    dropped=(r"\.(self_)?mask_value_float(16|32)$",),
    spare=(r"^lm_head\.",),
)
