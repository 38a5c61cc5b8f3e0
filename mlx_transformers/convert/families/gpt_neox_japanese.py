"""GPT-NeoX Japanese: NeoX one half after the other, without biases but one in the last layer.

Defaults are those of `GPTNeoXJapaneseConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table
from ..flat_model import FlatModel, activation, config_writer
from ..layer_types import patterned
from ..rope import rope, rotary
from ..rows import BLOCK, Row
from .gpt_neox import weights as neox_weights

NEOX, JAPANESE = "gpt_neox.", "gpt_neox_japanese."


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPTNeoXJapaneseConfig."""
    dim, count = config.get("hidden_size"), config.get("num_hidden_layers")
    config.ignore("rope_theta")
    table = decoder(
        dim=dim,
        n_layers=count,
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_eps")},
        mixer={
            "n_heads": config.get("num_attention_heads"),
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(
            dim * config.get("intermediate_multiple_size"),
            config.activation("hidden_act"),
            bias=False,
        ),
        position=rope(
            config,
            partial=True,
            theta_key="rotary_emb_base",
            fraction_key="rotary_pct",
        ),
        dropout=config.get("hidden_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )
    names = ["inner"] * (count - 1) + ["last"]
    return patterned(table, names, {"inner": {}, "last": {"mixer": {"out_bias": True}}})


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-NeoX Japanese."""
    theirs = f"{JAPANESE}layers.{{i}}.attention.dense"
    renamed = [
        Row(row.ours, row.theirs.replace(NEOX, JAPANESE), row.via)
        for row in neox_weights(config)
        if isinstance(row.theirs, str) and row.ours != f"{BLOCK}.mixer.o"
    ]
    return [
        *renamed,
        Row(f"{BLOCK}.mixer.o.weight", f"{theirs}.weight"),
        Row(f"{BLOCK}.mixer.o.bias", f"{theirs}_bias"),
    ]


def multiple(view: FlatModel) -> int:
    """Return the ratio of the widths of feed-forward network and model."""
    return int(view.number("block.ffn.hidden_dim") // view.number("dim"))


GPT_NEOX_JAPANESE = Family(
    model_types=("gpt_neox_japanese",),
    architecture="GPTNeoXJapaneseForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            "vocab_size": "vocab_size",
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "block.mixer.n_heads",
            "intermediate_multiple_size": multiple,
            "hidden_act": activation("block.ffn.activation"),
            "max_position_embeddings": "max_seq_len",
            "layer_norm_eps": "norm.eps",
            "attention_dropout": "block.mixer.dropout",
            "hidden_dropout": "block.dropout",
            "initializer_range": "init.std",
            "tie_word_embeddings": "head.tied",
        },
        rotary(theta_key="rotary_emb_base", fraction_key="rotary_pct"),
    ),
    defaults={"rotary_emb_base": 10000.0},
    dropped=(r"\.attention\.(masked_)?bias$",),
    tied=(("embed_out.weight", "gpt_neox_japanese.embed_in.weight"),),
)
