"""GPT-BigCode (SantaCoder, StarCoder 1): GPT-2 with one key/value head for all queries.

Defaults are those of `GPTBigCodeConfig`.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import Split, SplitGroups, Transform
from .gpt2 import KEYS as GPT2

HF_BLOCK = "transformer.h.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPTBigCodeConfig."""
    config.ignore("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "n_ctx")
    config.ignore(
        "inference_runner", "max_batch_size", "max_sequence_length", "pre_allocate_kv_cache"
    )
    config.ignore(
        "validate_runner_input", "summary_type", "summary_use_proj", "num_key_value_heads"
    )
    config.ignore("summary_activation", "summary_proj_to_labels", "summary_first_dropout")
    dim, n_heads = config.get("n_embd"), config.get("n_head")
    mixer: Table = {
        "n_heads": n_heads,
        "n_kv_heads": 1 if config.get("multi_query") else n_heads,
        "bias": True,
        "out_bias": True,
        "dropout": float(config.get("attn_pdrop")),
    }
    if not config.get("scale_attn_weights"):
        mixer["scale"] = 1.0
    return decoder(
        dim=dim,
        n_layers=config.get("n_layer"),
        max_seq_len=config.get("n_positions"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")},
        mixer=mixer,
        ffn=mlp(
            config.get("n_inner") or 4 * dim,
            config.activation("activation_function"),
        ),
        position={"kind": "learned"},
        embed={"dropout": float(config.get("embd_pdrop"))},
        dropout=config.get("resid_pdrop"),
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-BigCode."""
    dim, n_heads = config.get("n_embd"), config.get("n_head")
    width = dim // n_heads
    packed: Transform = SplitGroups(n_heads, n_heads, width)
    if config.get("multi_query"):
        packed = Split((dim, width, width))
    qkv = tuple(f"{BLOCK}.mixer.{x}" for x in "qkv")
    return [
        Row("embed.table", "transformer.wte"),
        Row("position.table", "transformer.wpe"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.{{ln_1,ln_2}}"),
        Row(qkv, f"{HF_BLOCK}.attn.c_attn", packed),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attn.c_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{c_fc,c_proj}}"),
    ]


KEYS: dict[str, PathOrFn] = {
    **GPT2,
    "multi_query": lambda view: view.get("block.mixer.n_kv_heads") == 1,
    "scale_attn_weights": lambda view: view.get("block.mixer.scale") != 1.0,
}

GPT_BIGCODE = Family(
    model_types=("gpt_bigcode",),
    architecture="GPTBigCodeForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=(prefixed("transformer.", "lm_head."),),
    dropped=(r"\.attn\.(masked_)?bias$",),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
