"""EXAONE 3, 3.5 and Deep: LLaMA's layers under the names of GPT-2. Defaults are those of
`ExaoneConfig`.
"""

from ..config import HfConfig
from ..family import Family
from ..flat_model import PathOrFn, activation, config_writer
from ..rope import rotary
from ..rows import BLOCK, Row, rows
from .llama import BIASED, model

HF_BLOCK = "transformer.h.{i}"


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an EXAONE 3."""
    return [
        Row("embed.table", "transformer.wte"),
        Row("norm", "transformer.ln_f"),
        Row("head", "lm_head"),
        *rows(f"{BLOCK}.mixer.{{q,k,v,o}}", f"{HF_BLOCK}.attn.attention.{{q,k,v,out}}_proj"),
        *rows(f"{BLOCK}.{{mixer,ffn}}_residual.pre", f"{HF_BLOCK}.ln_{{1,2}}"),
        *rows(f"{BLOCK}.ffn.{{gate,up,down}}", f"{HF_BLOCK}.mlp.{{c_fc_0,c_fc_1,c_proj}}"),
    ]


PUBLISHED: dict[str, PathOrFn] = {
    "num_layers": "n_layers",
    "layer_norm_epsilon": "norm.eps",
    "activation_function": activation("block.ffn.activation"),
}
"""Keys of published files, which are second names in `ExaoneConfig` and the only ones in mlx-lm."""
RENAMED = ("num_hidden_layers", "rms_norm_eps", "hidden_act")

EXAONE = Family(
    model_types=("exaone",),
    architecture="ExaoneForCausalLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **{key: path for key, path in BIASED.items() if key not in RENAMED},
            **PUBLISHED,
            "mlp_bias": "block.ffn.bias",
        },
        rotary(),
    ),
    # as transformers saves it, which takes a part of its own renaming back
    renames=(
        (r"^model\.embed_tokens\.", "transformer.wte."),
        (r"^model\.layers\.", "transformer.h."),
        (r"^model\.norm\.", "transformer.ln_f."),
    ),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
