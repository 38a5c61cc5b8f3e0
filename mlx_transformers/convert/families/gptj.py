"""GPT-J and CodeGen: attention and mlp side by side behind one norm, neighbours turn together.

Defaults are those of `GPTJConfig`; `CodeGenConfig` has the same.
"""

from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import SplitShards
from .gpt2 import KEYS

HF_BLOCK = "transformer.h.{i}"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a GPTJConfig or a CodeGenConfig."""
    config.ignore("n_ctx", "rotary", "scale_attn_weights", "summary_type", "summary_use_proj")
    config.ignore("summary_activation", "summary_proj_to_labels", "summary_first_dropout")
    dim, n_heads = config.get("n_embd"), config.get("n_head")
    head_dim = dim // n_heads
    turning = config.get("rotary_dim") or head_dim
    return decoder(
        dim=dim,
        n_layers=config.get("n_layer"),
        max_seq_len=config.get("n_positions"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")},
        mixer={"n_heads": n_heads, "dropout": float(config.get("attn_pdrop"))},
        ffn=mlp(
            config.get("n_inner") or 4 * dim,
            config.activation("activation_function"),
        ),
        position={"kind": "rope", "traditional": True, "fraction": turning / head_dim},
        embed={"dropout": float(config.get("embd_pdrop"))},
        arrangement="parallel",
        dropout=config.get("resid_pdrop"),
        head={"tied": config.get("tie_word_embeddings"), "bias": True},
        std=config.get("initializer_range"),
    )


def outer_rows() -> list[Row]:
    """Return all rows but those of q, k and v."""
    return [
        Row("embed.table", "transformer.wte"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        Row(f"{BLOCK}.residual.pre", f"{HF_BLOCK}.ln_1"),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attn.out_proj"),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{fc_in,fc_out}}"),
    ]


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-J."""
    return [*outer_rows(), *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{HF_BLOCK}.attn.{{q,k,v}}_proj")]


def codegen_weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a CodeGen: four shards, each of which has its q, its v and its k."""
    ours = tuple(f"{BLOCK}.mixer.{x}" for x in "qvk")
    return [*outer_rows(), Row(ours, f"{HF_BLOCK}.attn.qkv_proj", SplitShards(parts=3, shards=4))]


def turning(view: FlatModel) -> Table:
    """Return the number of rotated features of a head."""
    share = view.number("block.position.fraction")
    return {"rotary_dim": round(share * view.number("block.mixer.head_dim"))}


config = config_writer(KEYS, turning)
"""The GPTJConfig of a model."""

GPTJ = Family(
    model_types=("gptj",),
    architecture="GPTJForCausalLM",
    model=model,
    weights=weights,
    config=config,
    renames=((r"^model\.", "transformer."), prefixed("transformer.", "lm_head.")),  # mlx-lm's names
    dropped=(r"\.attn\.(masked_)?bias$", r"\.attn\.embed_positions$"),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
CODEGEN = Family(
    model_types=("codegen",),
    architecture="CodeGenForCausalLM",
    model=model,
    weights=codegen_weights,
    config=config,
    renames=(prefixed("transformer.", "lm_head."),),
    dropped=(r"\.attn\.(causal_mask|masked_bias)$", r"\.attn\.embed_positions$"),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
