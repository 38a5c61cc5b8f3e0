"""BART and those that share its code: mBART, MVP, PLBart, Pegasus, Marian, M2M-100, Blenderbot.

They are the transformer of 2017 with the norms before or after, learned or sinusoidal positions,
and a norm after the embedding or none. Defaults are those of each one's config class.
"""

from dataclasses import dataclass, field
from functools import partial

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, activation, config_writer, is_
from ..rows import Row, rows
from ..transforms import Reshape

LEARNED: Table = {"kind": "learned", "offset": 2}
SINUSOIDAL: Table = {"kind": "sinusoidal", "layout": "halves"}
FAIRSEQ: Table = {"kind": "sinusoidal", "layout": "halves", "spacing": "last", "offset": 2}


@dataclass(frozen=True)
class Member:
    """The differences of one of these families from BART.

    Attributes:
        placement: where the norms stand; with `pre` there is one after the last block.
        embed_norm: whether the embedding is normalised.
        words_first: whether the decoder's words are, before positions are added.
        position: the table of its positions.
        logits_bias: whether a fixed bias is added to the logits.
        apart: whether each side may have a table of words of its own.
    """

    placement: str = "post"
    embed_norm: bool = True
    words_first: bool = False
    position: Table = field(default_factory=lambda: LEARNED)
    logits_bias: bool = True
    apart: bool = False


def model(member: Member, config: HfConfig) -> Table:
    """Return the `[model]` table of a BartConfig, or of a relative's."""
    config.ignore("encoder_layerdrop", "decoder_layerdrop", "classifier_dropout", "classif_dropout")
    config.ignore("num_hidden_layers", "decoder_start_token_id", "num_labels", "num_beams")
    config.ignore("add_bias_logits", "add_final_layer_norm", "normalize_before", "static_position")
    config.ignore("normalize_embedding", "extra_pos_embeddings", "force_bos_token_to_be_generated")
    config.ignore("save_step", "gradient_checkpointing", "embedding_dropout")
    config.expect("use_prompt", False)
    config.ignore("prompt_length", "prompt_mid_dim")
    size = config.get("vocab_size")
    config.expect("decoder_vocab_size", size)
    return {
        "kind": "encoder_decoder",
        "dim": config.get("d_model"),
        "max_seq_len": config.get("max_position_embeddings"),
        "vocab_size": size,
        "encoder": tower(member, config, "encoder"),
        "decoder": tower(member, config, "decoder"),
        "shared": shared(member, config),
        "head": {"kind": "lm", "tied": _tied(config), "bias": has_logits_bias(member, config)},
        "init": {"kind": "normal", "std": config.get("init_std")},
    }


def tower(member: Member, config: HfConfig, side: str) -> Table:
    """Return the table of the encoder or of the decoder."""
    norm = {"kind": "layer_norm"}
    heads = {
        "n_heads": config.get(f"{side}_attention_heads"),
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attention_dropout")),
    }
    embed: Table = {
        "kind": "token",
        "scale": "sqrt_dim" if config.get("scale_embedding") else "one",
        "dropout": float(config.get("dropout")),
    }
    if member.embed_norm:
        embed["norm"] = norm
    if side == "decoder" and member.words_first:
        embed["norm_of"] = "words"
    block: Table = {
        "placement": member.placement,
        "dropout": float(config.get("dropout")),
        "norm": norm,
        "mixer": {"kind": "attention", **heads},
        "ffn": {
            "kind": "mlp",
            "hidden_dim": config.get(f"{side}_ffn_dim"),
            "activation": config.activation("activation_function"),
            "bias": True,
            "dropout": float(config.get("activation_dropout")),
        },
    }
    if side == "decoder":
        block["cross"] = {"kind": "cross_attention", **heads}
    return {
        "n_layers": config.get(f"{side}_layers"),
        "embed": embed,
        "position": positions(member, config),
        "block": block,
        "norm": norm if member.placement == "pre" else {"kind": "none"},
    }


def positions(member: Member, config: HfConfig) -> Table:
    """Return the position table; fairseq's positions start after the padding token's id."""
    if member.position != FAIRSEQ:
        return member.position
    return {**FAIRSEQ, "offset": config.get("pad_token_id") + 1, "skips_padding": True}


def weights(member: Member, config: HfConfig) -> list[Row]:
    """Return the weight map of a BART or a relative."""
    size = config.get("vocab_size")
    table = [Row("decoder.embed.table", "model.shared")]
    if not shared(member, config):
        table = rows("{encoder,decoder}.embed.table", "model.{encoder,decoder}.embed_tokens")
    out = "pre" if member.placement == "pre" else "out"
    weight_map = [
        *table,
        Row("head.weight", "lm_head.weight"),
        Row("head.bias", "final_logits_bias", Reshape((1, size), (size,))),
    ]
    for side in ("encoder", "decoder"):
        theirs, ours = f"model.{side}.layers.{{i}}", f"{side}.stack.blocks.{{i}}"
        parts = {"mixer": "self_attn"} | ({"cross": "encoder_attn"} if side == "decoder" else {})
        weight_map += [
            Row(f"{side}.position.table", f"model.{side}.embed_positions"),
            Row(f"{side}.embed.norm", f"model.{side}.layernorm_embedding"),
            Row(f"{side}.norm", f"model.{side}.layer_norm"),
            *rows(f"{ours}.ffn.{{up,down}}", f"{theirs}.{{fc1,fc2}}"),
            Row(f"{ours}.ffn_residual.{out}", f"{theirs}.final_layer_norm"),
        ]
        for sublayer, name in parts.items():
            weight_map += [
                *rows(f"{ours}.{sublayer}.{{q,k,v,o}}", f"{theirs}.{name}.{{q,k,v,out}}_proj"),
                Row(f"{ours}.{sublayer}_residual.{out}", f"{theirs}.{name}_layer_norm"),
            ]
    return weight_map


def shared(member: Member, config: HfConfig) -> bool:
    """Whether one table serves both sides."""
    if member.apart and not config.get("share_encoder_decoder_embeddings"):
        return False
    return _tied(config)


def has_logits_bias(member: Member, config: HfConfig) -> bool:
    """Whether there is a bias of the logits: the model without its head (`BartModel`) has none."""
    in_file = not config.tensors or "final_logits_bias" in config.tensors
    return member.logits_bias and in_file


def _tied(config: HfConfig) -> bool:
    return bool(config.get("tie_word_embeddings"))


SIDES: dict[str, PathOrFn] = {
    f"{side}_{key}": f"{side}.{path}"
    for side in ("encoder", "decoder")
    for key, path in (
        ("layers", "n_layers"),
        ("attention_heads", "block.mixer.n_heads"),
        ("ffn_dim", "block.ffn.hidden_dim"),
    )
}
KEYS: dict[str, PathOrFn] = {
    **SIDES,
    "vocab_size": "vocab_size",
    "d_model": "dim",
    "max_position_embeddings": "max_seq_len",
    "activation_function": activation("decoder.block.ffn.activation"),
    "scale_embedding": is_("decoder.embed.scale", "sqrt_dim"),
    "dropout": "decoder.block.dropout",
    "attention_dropout": "decoder.block.mixer.dropout",
    "activation_dropout": "decoder.block.ffn.dropout",
    "init_std": "init.std",
    "tie_word_embeddings": "head.tied",
}


def pad_offset(view: FlatModel) -> Table:
    """Return the padding token's id, after which fairseq's positions start."""
    return {"pad_token_id": view.get("encoder.position.offset") - 1}


def _family(model_type: str, architecture: str, member: Member) -> Family:
    computed = member.position["kind"] == "sinusoidal"
    first = "model.shared.weight"
    second = ("lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens")
    position_keys: dict[str, PathOrFn] = (
        {"share_encoder_decoder_embeddings": "shared"} if member.apart else {}
    )
    return Family(
        model_types=(model_type,),
        architecture=architecture,
        model=partial(model, member),
        weights=partial(weights, member),
        config=config_writer(
            {**KEYS, **position_keys}, *([pad_offset] if member.position == FAIRSEQ else [])
        ),
        renames=((r"^(?!model\.|lm_head\.|final_logits_bias)", "model."),),
        dropped=(r"coder\.version$", *((r"embed_positions\.weights?$",) if computed else ())),
        # Where each side has a table of its own, nobody reads the shared one.
        spare=(r"^model\.shared\.weight$",),
        tied=tuple((f"{name}.weight", first) for name in second),
    )


BART = _family("bart", "BartForConditionalGeneration", Member())
MBART = _family("mbart", "MBartForConditionalGeneration", Member(placement="pre"))
MVP = _family("mvp", "MvpForConditionalGeneration", Member())
PLBART = _family(
    "plbart",
    "PLBartForConditionalGeneration",
    Member(),
)
PEGASUS = _family(
    "pegasus",
    "PegasusForConditionalGeneration",
    Member(placement="pre", embed_norm=False, position=SINUSOIDAL),
)
MARIAN = _family(
    "marian",
    "MarianMTModel",
    Member(embed_norm=False, position=SINUSOIDAL, apart=True),
)
M2M_100 = _family(
    "m2m_100",
    "M2M100ForConditionalGeneration",
    Member(
        placement="pre",
        embed_norm=False,
        position=FAIRSEQ,
        logits_bias=False,
    ),
)
BLENDERBOT = _family(
    "blenderbot",
    "BlenderbotForConditionalGeneration",
    Member(
        placement="pre",
        embed_norm=False,
        position={"kind": "learned"},
    ),
)
BLENDERBOT_SMALL = _family(
    "blenderbot-small",
    "BlenderbotSmallForConditionalGeneration",
    Member(
        words_first=True,
        position={"kind": "learned"},
    ),
)
