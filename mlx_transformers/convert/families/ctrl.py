"""CTRL: GPT-2's size with sinusoidal positions, scaled embeddings and a biased head.

Defaults are those of `CTRLConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import config_writer
from ..rows import BLOCK, Row, rows

HF_BLOCK = "transformer.h.{i}"
EPS = 1e-6
"""Of the norms in the blocks; the config's is that of the last one."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a CTRLConfig."""
    table = decoder(
        dim=config.get("n_embd"),
        n_layers=config.get("n_layer"),
        max_seq_len=config.get("n_positions"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": EPS},
        mixer={"n_heads": config.get("n_head"), "bias": True, "out_bias": True},
        ffn=mlp(config.get("dff"), "relu"),
        position={"kind": "sinusoidal", "layout": "halves"},
        embed={"scale": "sqrt_dim", "dropout": float(config.get("embd_pdrop"))},
        dropout=config.get("resid_pdrop"),
        head={"tied": config.get("tie_word_embeddings"), "bias": True},
        std=config.get("initializer_range"),
    )
    table["norm"] = {"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")}
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a CTRL."""
    names = "{Wq,Wk,Wv,dense}"
    return [
        Row("embed.table", "transformer.w"),
        Row("norm", "transformer.layernorm"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{{layernorm1,layernorm2}}"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.multi_head_attention.{names}"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.ffn.{{0,2}}"),
    ]


CTRL = Family(
    model_types=("ctrl",),
    architecture="CTRLLMHeadModel",
    model=model,
    weights=weights,
    config=config_writer(
        {
            "n_embd": "dim",
            "n_layer": "n_layers",
            "n_positions": "max_seq_len",
            "vocab_size": "vocab_size",
            "n_head": "block.mixer.n_heads",
            "dff": "block.ffn.hidden_dim",
            "embd_pdrop": "embed.dropout",
            "resid_pdrop": "block.dropout",
            "layer_norm_epsilon": "norm.eps",
            "initializer_range": "init.std",
            "tie_word_embeddings": "head.tied",
        }
    ),
    renames=(prefixed("transformer.", "lm_head."),),
    dropped=(r"\.pos_encoding$",),
    tied=(("lm_head.weight", "transformer.w.weight"),),
)
