"""GPT-1: norms after, learned positions, a tanh gelu, no norm at the end.

Defaults are those of `OpenAIGPTConfig`.
"""

from ...core.errors import ConvertError, unknown
from ..config import HfConfig
from ..decoder import decoder, mlp
from ..family import Family, Table, prefixed
from ..flat_model import PathOrFn, config_writer
from ..rows import BLOCK, Row, rows
from ..transforms import Chain, Split, Transpose
from .gpt2 import KEYS as GPT2

HF_BLOCK = "transformer.h.{i}"
ACTIVATIONS = {"relu": "relu", "silu": "silu", "gelu": "gelu_tanh", "swish": "silu"}
"""Its own names: what it calls gelu is the tanh form."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an OpenAIGPTConfig."""
    config.ignore("n_ctx", "n_special", "predict_special_tokens")
    config.ignore("summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_proj_to_labels", "summary_first_dropout")
    name = config.get("afn")
    if name not in ACTIVATIONS:
        raise ConvertError(f"{config.where}: afn: {unknown('activation', name, ACTIVATIONS)}")
    dim = config.get("n_embd")
    return decoder(
        dim=dim,
        n_layers=config.get("n_layer"),
        max_seq_len=config.get("n_positions"),
        vocab_size=config.get("vocab_size"),
        norm={"kind": "layer_norm", "eps": config.get("layer_norm_epsilon")},
        mixer={
            "n_heads": config.get("n_head"),
            "bias": True,
            "out_bias": True,
            "dropout": float(config.get("attn_pdrop")),
        },
        ffn=mlp(4 * dim, ACTIVATIONS[name]),
        position={"kind": "learned"},
        embed={"dropout": float(config.get("embd_pdrop"))},
        placement="post",
        dropout=config.get("resid_pdrop"),
        last_norm=False,
        head={"tied": config.get("tie_word_embeddings")},
        std=config.get("initializer_range"),
    )


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a GPT-1."""
    dim = config.get("n_embd")
    packed = Chain(Transpose(), Split((dim, dim, dim)))
    return [
        Row("embed.table", "transformer.tokens_embed"),
        Row("position.table", "transformer.positions_embed"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.out", f"{HF_BLOCK}.{{ln_1,ln_2}}"),
        Row(tuple(f"{BLOCK}.mixer.{x}" for x in "qkv"), f"{HF_BLOCK}.attn.c_attn", packed),
        Row(f"{BLOCK}.mixer.o", f"{HF_BLOCK}.attn.c_proj", Transpose()),
        *rows(f"{BLOCK}.ffn.{{up,down}}", f"{HF_BLOCK}.mlp.{{c_fc,c_proj}}", Transpose()),
    ]


KEYS: dict[str, PathOrFn] = {
    **{key: path for key, path in GPT2.items() if key not in ("n_inner", "activation_function")},
    "afn": lambda view: {"gelu_tanh": "gelu"}.get(name := view.get("block.ffn.activation"), name),
}

OPENAI_GPT = Family(
    model_types=("openai-gpt",),
    architecture="OpenAIGPTLMHeadModel",
    model=model,
    weights=weights,
    config=config_writer(KEYS),
    renames=(prefixed("transformer.", "lm_head."),),
    dropped=(r"\.attn\.bias$",),
    tied=(("lm_head.weight", "transformer.tokens_embed.weight"),),
)
