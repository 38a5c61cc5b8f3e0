"""T5, mT5 and UMT5: RMS norms before, bucketed relative positions, no biases, unscaled scores.

Defaults are those of `T5Config`, `MT5Config` and `UMT5Config`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ...core.errors import ConvertError
from ..config import HfConfig, their_activation
from ..family import Family, Table
from ..view import Told, View, spelled
from ..weights import Row, rows


@dataclass(frozen=True)
class Member:
    """What tells a relative from T5.

    Attributes:
        every_layer: whether each layer has a table of biases of its own.
        scaled: whether a tied head may scale its logits by 1/√D.
        defaults: values of its config class that differ from `DEFAULTS`.
    """

    every_layer: bool = False
    scaled: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)


DEFAULTS: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "feed_forward_proj": "relu",
}
MULTILINGUAL = {
    "vocab_size": 250112,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
}
CONTEXT = 512
"""Length that T5 was trained with; its positions have no end."""


def model(member: Member, config: HfConfig) -> Table:
    """The `[model]` table of a T5Config, or of a relative's."""
    config.ignore("classifier_dropout", "decoder_start_token_id", "tokenizer_class")
    config.ignore("output_past", "feed_forward_dropout", "max_source_length", "max_target_length")
    if reads_only(config):
        return encoder(member, config)
    dim = _told(member, config, "d_model")
    layers = _told(member, config, "num_layers")
    head: Table = {"kind": "lm", "tied": _tied(config)}
    if _scaled(member, config):
        head["scale"] = dim**-0.5
    return {
        "kind": "encoder_decoder",
        "dim": dim,
        "max_seq_len": config.get("n_positions", CONTEXT),
        "vocab_size": _told(member, config, "vocab_size"),
        "encoder": {"n_layers": layers, **tower(member, config, "encoder")},
        "decoder": {
            "n_layers": config.get("num_decoder_layers", None) or layers,
            **tower(member, config, "decoder"),
        },
        "head": head,
        "init": {"kind": "normal", "std": 0.05 * config.get("initializer_factor", 1.0)},
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
    """The `[model]` table of an encoder alone."""
    config.ignore("num_decoder_layers", "tie_word_embeddings", "scale_decoder_outputs")
    return {
        "kind": "encoder",
        "dim": _told(member, config, "d_model"),
        "max_seq_len": config.get("n_positions", CONTEXT),
        "vocab_size": _told(member, config, "vocab_size"),
        "n_layers": _told(member, config, "num_layers"),
        **tower(member, config, "encoder"),
        "init": {"kind": "normal", "std": 0.05 * config.get("initializer_factor", 1.0)},
    }


def tower(member: Member, config: HfConfig, side: str) -> Table:
    """The table of one side, without its number of layers."""
    dropout = float(config.get("dropout_rate", 0.1))
    norm = {"kind": "rms_norm", "eps": config.get("layer_norm_epsilon", 1e-6)}
    heads = {
        "n_heads": _told(member, config, "num_heads"),
        "head_dim": _told(member, config, "d_kv"),
        "scale": 1.0,
        "dropout": dropout,
    }
    position = {
        "kind": "buckets",
        "n_heads": heads["n_heads"],
        "n_buckets": config.get("relative_attention_num_buckets", 32),
        "max_distance": config.get("relative_attention_max_distance", 128),
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
    """An mlp, or a glu where `feed_forward_proj` begins with "gated-".

    Raises:
        ConvertError: it says something else.
    """
    told = _told(member, config, "feed_forward_proj")
    gate, _, name = told.rpartition("-")
    if gate not in ("", "gated"):
        raise ConvertError(
            f"{config.where}: feed_forward_proj = '{told}' is neither ACT nor gated-ACT."
        )
    # The first gated T5 was written with the tanh form, and a config says "gelu" for it. Where a
    # file spells out both halves as well, those count.
    name = config.get("dense_act_fn", None) or ("gelu_new" if told == "gated-gelu" else name)
    gated = config.get("is_gated_act", None)
    return {
        "kind": "glu" if (gate if gated is None else gated) else "mlp",
        "hidden_dim": _told(member, config, "d_ff"),
        "activation": config.watched("feed_forward_proj", {"act": name}).activation("act"),
    }


def weights(member: Member, config: HfConfig) -> list[Row]:
    """The weight map of a T5."""
    gated = feed_forward(member, config)["kind"] == "glu"
    inside = ("{gate,up,down}", "{wi_0,wi_1,wo}") if gated else ("{up,down}", "{wi,wo}")
    found = [Row("decoder.embed.table", "shared"), Row("head", "lm_head")]
    for side in ("encoder", "decoder"):
        theirs, ours = f"{side}.block.{{i}}.layer", f"{side}.stack.blocks.{{i}}"
        bias = "SelfAttention.relative_attention_bias"
        parts = {"mixer": "0.SelfAttention"}
        if side == "decoder":
            parts["cross"] = "1.EncDecAttention"
        last = len(parts)
        found += [
            Row(f"{side}.position.table", f"{side}.block.0.layer.0.{bias}"),
            Row(f"{ours}.position.table", f"{theirs}.0.{bias}"),
            Row(f"{side}.norm", f"{side}.final_layer_norm"),
            *rows(f"{ours}.ffn.{inside[0]}", f"{theirs}.{last}.DenseReluDense.{inside[1]}"),
            Row(f"{ours}.ffn_residual.pre", f"{theirs}.{last}.layer_norm"),
        ]
        for number, (mine, name) in enumerate(parts.items()):
            found += [
                *rows(f"{ours}.{mine}.{{q,k,v,o}}", f"{theirs}.{name}.{{q,k,v,o}}"),
                Row(f"{ours}.{mine}_residual.pre", f"{theirs}.{number}.layer_norm"),
            ]
    return alone(found) if reads_only(config) else found


def alone(table: Sequence[Row]) -> list[Row]:
    """The rows of an encoder that has no decoder beside it."""
    inside = [replace(row, ours=str(row.ours).removeprefix("encoder.")) for row in table]
    words = Row("embed.table", "shared")
    return [words, *(row for row in inside if not str(row.ours).startswith(("decoder", "head")))]


def _tied(config: HfConfig) -> bool:
    # A file's own head counts: transformers 5 writes tie_word_embeddings = true for all of them.
    told = bool(config.get("tie_word_embeddings", True))
    return "lm_head.weight" not in config.tensors if config.tensors else told


def _scaled(member: Member, config: HfConfig) -> bool:
    told = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True) is not False)
    return member.scaled and bool(told)


def _told(member: Member, config: HfConfig, key: str) -> Any:
    return config.get(key, member.defaults.get(key, DEFAULTS[key]))


def said_ffn(view: View) -> str:
    """`feed_forward_proj`: the activation, behind "gated-" where there is a gate."""
    name = view.get("decoder.block.ffn.activation")
    gated = view.get("decoder.block.ffn.kind") == "glu"
    if gated and name == "gelu_tanh":
        return "gated-gelu"
    return ("gated-" if gated else "") + their_activation(name)


KEYS: dict[str, Told] = {
    "vocab_size": "vocab_size",
    "d_model": "dim",
    "d_kv": "decoder.block.mixer.head_dim",
    "d_ff": "decoder.block.ffn.hidden_dim",
    "num_layers": "encoder.n_layers",
    "num_decoder_layers": "decoder.n_layers",
    "num_heads": "decoder.block.mixer.n_heads",
    "n_positions": "max_seq_len",
    "feed_forward_proj": said_ffn,
    "relative_attention_num_buckets": "decoder.block.position.n_buckets",
    "relative_attention_max_distance": "decoder.block.position.max_distance",
    "dropout_rate": "decoder.block.dropout",
    "layer_norm_epsilon": "decoder.norm.eps",
    "tie_word_embeddings": "head.tied",
    "scale_decoder_outputs": lambda view: view.get("head.scale") != 1.0,
}


def said(title: str) -> Callable[[Table], Table]:
    """What says the config of a T5, or of its encoder alone, as if a decoder like it followed."""
    whole = spelled(KEYS)

    def config(table: Table) -> Table:
        if table["kind"] != "encoder":
            return whole(table)
        kept = ("dim", "vocab_size", "max_seq_len", "init")
        side = {key: value for key, value in table.items() if key not in (*kept, "kind")}
        both = {"encoder": side, "decoder": side, "head": {"tied": True, "scale": 1.0}}
        told = whole({key: table[key] for key in kept} | both)
        return told | {"architectures": [f"{title}EncoderModel"]}

    return config


def _family(model_type: str, architecture: str, member: Member) -> Family:
    first = "shared.weight"
    return Family(
        model_types=(model_type,),
        architecture=architecture,
        model=partial(model, member),
        weights=partial(weights, member),
        config=said(architecture.removesuffix("ForConditionalGeneration")),
        # Old files hold the bias of cross attention, which no code ever read.
        dropped=(r"EncDecAttention\.relative_attention_bias\.weight$",),
        tied=tuple((f"{side}.embed_tokens.weight", first) for side in ("encoder", "decoder")),
    )


T5 = _family("t5", "T5ForConditionalGeneration", Member())
MT5 = _family("mt5", "MT5ForConditionalGeneration", Member(scaled=False, defaults=MULTILINGUAL))
UMT5 = _family(
    "umt5",
    "UMT5ForConditionalGeneration",
    Member(every_layer=True, defaults=MULTILINGUAL),
)
