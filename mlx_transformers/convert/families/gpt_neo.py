"""GPT-Neo: GPT-2 whose blocks see all of the past or a window of it by turns; unscaled scores.

Defaults are those of `GPTNeoConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import MISSING, FlatModel, PathOrFn, activation, config_writer
from ..layer_types import SLIDING, layer_types_of
from ..rows import BLOCK, Row, rows

HF_BLOCK = "transformer.h.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPTNeoConfig."""
    config.ignore("classifier_dropout", "summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_proj_to_labels", "summary_first_dropout", "attention_layers")
    dim = config.get("hidden_size")
    table = decoder(
        dim=dim,
        n_layers=config.get("num_layers"),
        max_seq_len=config.get("max_position_embeddings"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")},
        mixer={
            "n_heads": config.get("num_heads"),
            "scale": 1.0,
            "out_bias": True,
            "dropout": float(config.get("attention_dropout")),
        },
        ffn=mlp(
            config.get("intermediate_size") or 4 * dim,
            config.activation("activation_function"),
        ),
        position={"kind": "learned"},
        embed={"dropout": float(config.get("embed_dropout"))},
        dropout=config.get("resid_dropout"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )
    kinds = config.get("attention_types") or [[["global", "local"], 12]]
    pattern = [kind for names, times in kinds for kind in names * times]
    window = config.get("window_size")
    mixer = table["block"]["mixer"]
    if set(pattern) == {"local"}:
        mixer["window"] = window
    elif set(pattern) != {"global"}:
        local = table["block"] | {"mixer": mixer | {"window": window}}
        table |= {"blocks": {"global": table["block"], "local": local}, "pattern": pattern}
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-Neo."""
    return [
        Row("embed.table", "transformer.wte"),
        Row("position.table", "transformer.wpe"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{{ln_1,ln_2}}"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.attn.attention.{{q,k,v,out}}_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{c_fc,c_proj}}"),
    ]


def by_turns(view: FlatModel) -> Table:
    """Return which layers attend to the whole past."""
    names = ["local" if kind == SLIDING else "global" for kind in layer_types_of(view)]
    return {"attention_types": [[names, 1]], "attention_layers": names}


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "intermediate_size": "block.ffn.hidden_dim",
    "num_layers": "n_layers",
    "num_heads": "block.mixer.n_heads",
    "activation_function": activation("block.ffn.activation"),
    "max_position_embeddings": "max_seq_len",
    "window_size": lambda view: view.get("block.mixer.window") or MISSING,
    "layer_norm_epsilon": "block.norm.eps",
    "attention_dropout": "block.mixer.dropout",
    "embed_dropout": "embed.dropout",
    "resid_dropout": "block.dropout",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}

GPT_NEO = Family(
    model_types=("gpt_neo",),
    architecture="GPTNeoForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, by_turns),
    renames=(prefixed("transformer.", "lm_head."),),
    dropped=(r"\.attention\.(masked_)?bias$",),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
