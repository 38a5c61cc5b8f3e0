"""MPT: ALiBi, layer norms without bias, no biases, q, k, v packed one after the other.

Defaults are those of `MptConfig` and `MptAttentionConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import Split

HF_BLOCK = "transformer.blocks.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an MptConfig."""
    # Read by the class, but by no line of the model: its attention is always biased by distance.
    config.ignore("learned_pos_emb", "init_device", "resid_pdrop", "emb_pdrop", "verbose")
    config.ignore("expansion_ratio", "init_config", "use_chat", "low_precision_layernorm")
    for key, value in (("no_bias", True), ("logit_scale", None), ("embedding_fraction", 1.0)):
        config.expect(key, value)
    config.ignore("norm_type")
    attn = config.section("attn_config")
    attn.ignore("attn_type", "attn_impl", "model_type", "attn_uses_sequence_id")
    # transformers reads alibi_bias_max and uses 8 all the same, so any other is ambiguous.
    only = {"prefix_lm": False, "qk_ln": False, "alibi": True, "alibi_bias_max": 8}
    for key, value in only.items():
        attn.expect(key, value)
    dim = config.get("d_model")
    dropout = float(attn.get("attn_pdrop"))
    mixer: Table = {"n_heads": config.get("n_heads"), "dropout": dropout}
    if scale := attn.optional("softmax_scale"):
        mixer["scale"] = scale
    if clip := attn.optional("clip_qkv"):
        mixer["clip"] = float(clip)
    return decoder(
        dim=dim,
        n_layers=config.get("n_layers"),
        max_seq_len=config.get("max_seq_len"),
        vocab_size=config.get("vocab_size"),
        norm={
            "kind": "layer_norm",
            "eps": config.get("layer_norm_epsilon"),
            "bias": False,
        },
        mixer=mixer,
        ffn=mlp(4 * dim, "gelu", bias=False),
        position={"kind": "alibi"},
        dropout=dropout,
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an MPT."""
    dim = config.get("d_model")
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "transformer.wte"),
        Row("norm", "transformer.norm_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{{norm_1,norm_2}}"),
        Row(qkv, f"{HF_BLOCK}.attn.Wqkv", Split((dim, dim, dim))),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attn.out_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.ffn.{{up,down}}_proj"),
    ]


def attention(view: FlatModel) -> Table:
    """Return the table `attn_config`."""
    keys = {"scale": "softmax_scale", "clip": "clip_qkv", "dropout": "attn_pdrop"}
    mixer = view.layers[0]["mixer"]
    options = {key: mixer[ours] for ours, key in keys.items()}
    # their class takes a whole number alone here, so a rate of 0 has to be one
    options["attn_pdrop"] = options["attn_pdrop"] or 0
    return {"attn_config": {"alibi": True} | options}


KEYS: dict[str, PathOrFn] = {
    "vocab_size": "vocab_size",
    "d_model": "dim",
    "n_layers": "n_layers",
    "n_heads": "block.mixer.n_heads",
    "max_seq_len": "max_seq_len",
    "layer_norm_epsilon": "norm.eps",
    "initializer_range": "init.std",
    "tie_word_embeddings": "head.tied",
}

MPT = Family(
    model_types=("mpt",),
    architecture="MptForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS, attention, no_bias=True),
    renames=(prefixed("transformer.", "lm_head."),),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
