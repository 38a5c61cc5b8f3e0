"""T5, mT5 and UMT5: RMS norms before, bucketed relative positions, no biases, unscaled scores.

Defaults are those of `T5Config`, `MT5Config` and `UMT5Config`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ...core.errors import ConvertError
from ..config import HfConfig, their_activation
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rows import Row, moved, rows


@dataclass(frozen=True)
class Member:
    """The differences of a relative from T5.

    Attributes:
        every_layer: whether each layer has a table of biases of its own.
        scaled: whether a tied head may scale its logits by 1/√D.
    """

    every_layer: bool = False
    scaled: bool = True


DEFAULTS = {"n_positions": 512, "tie_word_embeddings": True}
"""Keys of older files: the length that T5 was trained with (its positions have no end)."""


def model(member: Member, config: HfConfig) -> Table:
    """Return the `[model]` table of a T5Config, or of a relative's."""
    config.ignore("classifier_dropout", "decoder_start_token_id", "tokenizer_class")
    config.ignore("output_past", "feed_forward_dropout", "max_source_length", "max_target_length")
    if reads_only(config):
        return encoder(member, config)
    dim = config.get("d_model")
    layers = config.get("num_layers")
    head: Table = {"kind": "lm", "tied": _tied(config)}
    if _scaled(member, config):
        head["scale"] = dim**-0.5
    return {
        "kind": "encoder_decoder",
        "dim": dim,
        "max_seq_len": config.get("n_positions"),
        "vocab_size": config.get("vocab_size"),
        "encoder": {"n_layers": layers, **tower(member, config, "encoder")},
        "decoder": {
            "n_layers": config.get("num_decoder_layers") or layers,
            **tower(member, config, "decoder"),
        },
        "head": head,
        "init": {"kind": "normal", "std": 0.05 * config.get("initializer_factor")},
    }


def reads_only(config: HfConfig) -> bool:
    """Whether the saved class is an encoder alone.

    Raises:
        ConvertError: it has a head that isn't built.
    """
    name = config.architecture
    if name.endswith(("Classification", "Answering")):
        raise config.refuse("architectures", name)
    return name.endswith("EncoderModel")


def encoder(member: Member, config: HfConfig) -> Table:
    """Return the `[model]` table of an encoder alone."""
    config.ignore("num_decoder_layers", "tie_word_embeddings", "scale_decoder_outputs")
    return {
        "kind": "encoder",
        "dim": config.get("d_model"),
        "max_seq_len": config.get("n_positions"),
        "vocab_size": config.get("vocab_size"),
        "n_layers": config.get("num_layers"),
        **tower(member, config, "encoder"),
        "init": {"kind": "normal", "std": 0.05 * config.get("initializer_factor")},
    }


def tower(member: Member, config: HfConfig, side: str) -> Table:
    """Return the table of one side, without its number of layers."""
    dropout = float(config.get("dropout_rate"))
    norm = {"kind": "rms_norm", "eps": config.get("layer_norm_epsilon")}
    heads = {
        "n_heads": config.get("num_heads"),
        "head_dim": config.get("d_kv"),
        "scale": 1.0,
        "dropout": dropout,
    }
    position = {
        "kind": "buckets",
        "n_heads": heads["n_heads"],
        "n_buckets": config.get("relative_attention_num_buckets"),
        "max_distance": config.get("relative_attention_max_distance"),
    }
    block: Table = {
        "placement": "pre",
        "dropout": dropout,
        "norm": norm,
        "mixer": {"kind": "attention", **heads},
        "ffn": feed_forward(member, config) | {"dropout": dropout},
    }
    if side == "decoder":
        block["cross"] = {"kind": "cross_attention", **heads}
    if member.every_layer:
        block["position"] = position
    return {
        "embed": {"kind": "token", "dropout": dropout},
        "position": {"kind": "none"} if member.every_layer else position,
        "block": block,
        "norm": norm,
    }


def feed_forward(member: Member, config: HfConfig) -> Table:
    """Return an mlp, or a glu if `feed_forward_proj` begins with "gated-".

    Raises:
        ConvertError: it says something else.
    """
    projection = config.get("feed_forward_proj")
    gate, _, name = projection.rpartition("-")
    if gate not in ("", "gated"):
        raise ConvertError(
            f"{config.where}: feed_forward_proj = '{projection}' is neither ACT nor gated-ACT."
        )
    # The first gated T5 was written with the tanh form, and a config says "gelu" for it. Where a
    # file spells out both halves as well, those count.
    name = config.optional("dense_act_fn") or ("gelu_new" if projection == "gated-gelu" else name)
    gated = config.optional("is_gated_act")
    return {
        "kind": "glu" if (gate if gated is None else gated) else "mlp",
        "hidden_dim": config.get("d_ff"),
        "activation": config.watched("feed_forward_proj", {"act": name}).activation("act"),
    }


def weights(member: Member, config: HfConfig) -> list[Row]:
    """Return the weight map of a T5."""
    gated = feed_forward(member, config)["kind"] == "glu"
    inside = ("{gate,up,down}", "{wi_0,wi_1,wo}") if gated else ("{up,down}", "{wi,wo}")
    weight_map = [Row("decoder.embed.table", "shared"), Row("head", "lm_head")]
    for side in ("encoder", "decoder"):
        theirs, ours = f"{side}.block.{{i}}.layer", f"{side}.stack.blocks.{{i}}"
        bias = "SelfAttention.relative_attention_bias"
        parts = {"mixer": "0.SelfAttention"}
        if side == "decoder":
            parts["cross"] = "1.EncDecAttention"
        last = len(parts)
        weight_map += [
            Row(f"{side}.position.table", f"{side}.block.0.layer.0.{bias}"),
            Row(f"{ours}.position.table", f"{theirs}.0.{bias}"),
            Row(f"{side}.norm", f"{side}.final_layer_norm"),
            *rows(f"{ours}.ffn.{inside[0]}", f"{theirs}.{last}.DenseReluDense.{inside[1]}"),
            Row(f"{ours}.ffn_residual.pre", f"{theirs}.{last}.layer_norm"),
        ]
        for number, (sublayer, name) in enumerate(parts.items()):
            weight_map += [
                *rows(f"{ours}.{sublayer}.{{q,k,v,o}}", f"{theirs}.{name}.{{q,k,v,o}}"),
                Row(f"{ours}.{sublayer}_residual.pre", f"{theirs}.{number}.layer_norm"),
            ]
    return encoder_only(weight_map) if reads_only(config) else weight_map


def encoder_only(table: Sequence[Row]) -> list[Row]:
    """Return the rows of an encoder without a decoder."""
    return [Row("embed.table", "shared"), *moved(table, ("encoder", ""))]


def _tied(config: HfConfig) -> bool:
    # A file's own head counts: transformers 5 writes tie_word_embeddings = true for all of them.
    tied = bool(config.get("tie_word_embeddings"))
    return "lm_head.weight" not in config.tensors if config.tensors else tied


def _scaled(member: Member, config: HfConfig) -> bool:
    scaled = config.optional("scale_decoder_outputs")
    if scaled is None:
        scaled = config.get("tie_word_embeddings")
    return member.scaled and bool(scaled)


def ffn_projection(view: FlatModel) -> str:
    """Return `feed_forward_proj`: the activation, after "gated-" if there is a gate."""
    name = view.get("decoder.block.ffn.activation")
    gated = view.get("decoder.block.ffn.kind") == "glu"
    if gated and name == "gelu_tanh":
        return "gated-gelu"
    return ("gated-" if gated else "") + their_activation(name)


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "d_model": "dim",
    "d_kv": "decoder.block.mixer.head_dim",
    "d_ff": "decoder.block.ffn.hidden_dim",
    "num_layers": "encoder.n_layers",
    "num_decoder_layers": "decoder.n_layers",
    "num_heads": "decoder.block.mixer.n_heads",
    "n_positions": "max_seq_len",
    "feed_forward_proj": ffn_projection,
    "relative_attention_num_buckets": "decoder.block.position.n_buckets",
    "relative_attention_max_distance": "decoder.block.position.max_distance",
    "dropout_rate": "decoder.block.dropout",
    "layer_norm_epsilon": "decoder.norm.eps",
    "tie_word_embeddings": "head.tied",
    "scale_decoder_outputs": lambda view: view.get("head.scale") != 1.0,
}


def writer(title: str, *more: Callable[[FlatModel], Table]) -> Callable[[Table], Table]:
    """Return a config writer of a T5, or of its encoder alone as if a decoder followed.

    Args:
        title: the classes' name before `EncoderModel` and others.
        more: functions that return several keys of a relative.
    """
    whole = config_writer(KEYS, *more)

    def config(table: Table) -> Table:
        if table["kind"] != "encoder":
            return whole(table)
        shared = ("dim", "vocab_size", "max_seq_len", "init")
        side = {key: value for key, value in table.items() if key not in (*shared, "kind")}
        both = {"encoder": side, "decoder": side, "head": {"tied": True, "scale": 1.0}}
        keys = whole({key: table[key] for key in shared} | both)
        return keys | {"architectures": [f"{title}EncoderModel"]}

    return config


def _family(model_type: str, architecture: str, member: Member) -> Family:
    first = "shared.weight"
    return Family(
        model_types=(model_type,),
        architecture=architecture,
        model=partial(model, member),
        weights=partial(weights, member),
        config=writer(architecture.removesuffix("ForConditionalGeneration")),
        defaults=DEFAULTS,
        # Old files hold the bias of cross attention, which no code ever read.
        dropped=(r"EncDecAttention\.relative_attention_bias\.weight$",),
        tied=tuple((f"{side}.embed_tokens.weight", first) for side in ("encoder", "decoder")),
    )


T5 = _family("t5", "T5ForConditionalGeneration", Member())
MT5 = _family("mt5", "MT5ForConditionalGeneration", Member(scaled=False))
UMT5 = _family(
    "umt5",
    "UMT5ForConditionalGeneration",
    Member(every_layer=True),
)
