"""XGLM and BioGPT: decoders in the layout of fairseq, scaled embeddings, positions from two on.

Defaults are those of `XGLMConfig` and `BioGptConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table
from ..flat_model import PathOrFn, activation, config_writer, is_
from ..rows import BLOCK, Row, rows
from .bart import FAIRSEQ, LEARNED


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an XGLMConfig."""
    config.ignore("layerdrop", "decoder_start_token_id", "num_hidden_layers")
    if (pad := config.get("pad_token_id")) is not None and pad > 1:
        raise config.refuse("pad_token_id", pad, "their code gives no vector to that position")
    dropout = float(config.get("dropout"))
    return decoder(
        dim=config.get("d_model"),
        n_layers=config.get("num_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm"},
        mixer={
            "n_heads": config.get("attention_heads"),
            "bias": True,
            "out_bias": True,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(
            config.get("ffn_dim"),
            config.activation("activation_function"),
            dropout=config.get("activation_dropout"),
        ),
        position=FAIRSEQ,
        embed=_embed(config, dropout),
        dropout=dropout,
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("init_std"),
    )


def biogpt(config: HfConfig) -> Table:
    """Return the `[model]` table of a BioGptConfig."""
    config.ignore("layerdrop", "layer_norm_eps")
    dropout = float(config.get("hidden_dropout_prob"))
    return decoder(
        dim=config.get("hidden_size"),
        n_layers=config.get("num_hidden_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        # Its config has a layer_norm_eps that its code never reads.
        norm={"kind": "layer_norm"},
        mixer={
            "n_heads": config.get("num_attention_heads"),
            "bias": True,
            "out_bias": True,
            "dropout": float(config.get("attention_probs_dropout_prob")),
        },
        ffn=mlp(
            config.get("intermediate_size"),
            config.activation("hidden_act"),
            dropout=config.get("activation_dropout"),
        ),
        position=LEARNED,
        embed=_embed(config, dropout),
        dropout=dropout,
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def _embed(config: HfConfig, dropout: float) -> Table:
    scale = "sqrt_dim" if config.get("scale_embedding") else "one"
    return {"scale": scale, "dropout": dropout}


def weights(prefix: str, head: str) -> list[Row]:
    """Return the weight map: fairseq's names below `prefix`."""
    theirs = f"{prefix}layers.{{i}}"
    return [
        Row("embed.table", f"{prefix}embed_tokens"),
        Row("position.table", f"{prefix}embed_positions"),
        Row("norm", f"{prefix}layer_norm"),
        Row("head", head),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{theirs}.{{self_attn,final}}_layer_norm"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{theirs}.self_attn.{{q,k,v,out}}_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{theirs}.{{fc1,fc2}}"),
    ]


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_seq_len",
    "activation_dropout": "block.ffn.dropout",
    "scale_embedding": is_("embed.scale", "sqrt_dim"),
    "tie_word_embeddings": "head.tied",
}

XGLM = Family(
    model_types=("xglm",),
    architecture="XGLMForCausalLM",
    model=model,
    weights=lambda config: weights("model.", "lm_head"),
    config=config_writer(
        {
            **KEYS,
            "d_model": "dim",
            "num_layers": "n_layers",
            "attention_heads": "block.mixer.n_heads",
            "ffn_dim": "block.ffn.hidden_dim",
            "activation_function": activation("block.ffn.activation"),
            "dropout": "block.dropout",
            "attention_dropout": "block.mixer.dropout",
            "init_std": "init.std",
        }
    ),
    renames=((r"^(?!model\.|lm_head\.)", "model."),),
    dropped=(r"embed_positions\.weights?$",),
    tied=(("lm_head.weight", "model.embed_tokens.weight"),),
)
BIOGPT = Family(
    model_types=("biogpt",),
    architecture="BioGptForCausalLM",
    model=biogpt,
    weights=lambda config: weights("biogpt.", "output_projection"),
    config=config_writer(
        {
            **KEYS,
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "block.mixer.n_heads",
            "intermediate_size": "block.ffn.hidden_dim",
            "hidden_act": activation("block.ffn.activation"),
            "hidden_dropout_prob": "block.dropout",
            "attention_probs_dropout_prob": "block.mixer.dropout",
            "initializer_range": "init.std",
        }
    ),
    renames=((r"^(?!biogpt\.|output_projection\.)", "biogpt."),),
    tied=(("output_projection.weight", "biogpt.embed_tokens.weight"),),
)
