"""OPT: GPT-3 in the open: relu, learned positions from the third row on, biases everywhere.

Defaults are those of `OPTConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table
from ..flat_model import PathOrFn, activation, biased, config_writer, is_
from ..rows import BLOCK, Row, rows

HF_BLOCK = "model.decoder.layers.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an OPTConfig."""
    config.ignore("layerdrop", "activation_dropout", "output_projection")
    dim = config.get("hidden_size")
    bias, before = config.get("enable_bias"), config.get("do_layer_norm_before")
    width = config.get("word_embed_proj_dim") or dim
    removed = config.get("_remove_final_layer_norm")
    narrow = {} if width == dim else {"width": width}
    return decoder(
        dim=dim,
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "weight": config.get("layer_norm_elementwise_affine")},
        mixer={
            "n_heads": config.get("num_attention_heads"),
            "bias": bias,
            "out_bias": bias,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(config.get("ffn_dim"), config.activation("activation_function"), bias),
        position={"kind": "learned", "offset": 2},
        embed=narrow | ({"project": "words"} if narrow else {}),
        placement="pre" if before else "post",
        dropout=config.get("dropout"),
        last_norm=bool(before and not removed),
        head={"tied": config.get("tie_word_embeddings"), **narrow},
        std=config.get("init_std"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an OPT."""
    out = "pre" if config.get("do_layer_norm_before") else "out"
    norms = "{self_attn,final}_layer_norm"
    return [
        Row("embed.table", "model.decoder.embed_tokens"),
        Row("embed.project", "model.decoder.project_in"),
        Row("position.table", "model.decoder.embed_positions"),
        Row("norm", "model.decoder.final_layer_norm"),
        Row("head.project", "model.decoder.project_out"),
        Row("head.weight", "lm_head.weight"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.{out}", f"{HF_BLOCK}.{norms}"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.self_attn.{{q,k,v,out}}_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.{{fc1,fc2}}"),
    ]


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "ffn_dim": "block.ffn.hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "block.mixer.n_heads",
    "activation_function": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "word_embed_proj_dim": lambda view: view.get("embed.width") or view.get("dim"),
    "do_layer_norm_before": is_("block.placement", "pre"),
    "_remove_final_layer_norm": is_("norm.kind", "none"),
    "layer_norm_elementwise_affine": "block.norm.weight",
    "enable_bias": lambda view: biased(view) or bool(view.get("block.ffn.bias")),
    "attention_dropout": "block.mixer.dropout",
    "dropout": "block.dropout",
    "init_std": "init.std",
    "tie_word_embeddings": "head.tied",
}

OPT = Family(
    model_types=("opt",),
    architecture="OPTForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=((r"^decoder\.", "model.decoder."),),
    tied=(("lm_head.weight", "model.decoder.embed_tokens.weight"),),
)
