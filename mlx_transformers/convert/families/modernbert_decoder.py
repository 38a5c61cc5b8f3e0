"""ModernBERT's decoder (Ettin): the same layers, seen one way, under a head over words.

Defaults are those of `ModernBertDecoderConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..rope import rotary_by_layer
from ..view import View, spelled
from ..weights import Row, rows
from . import modernbert
from .modernbert import BLOCK, HF_BLOCK

HEAD = "ForCausalLM"


def model(config: HfConfig) -> Table:
    """The `[model]` table of a ModernBertDecoderConfig.

    Raises:
        ConvertError: a class without the head over words.
    """
    if config.architecture and not config.architecture.endswith(HEAD):
        raise config.refuse("architectures", config.architecture, f"only a class {HEAD} is")
    config.ignore("classifier_dropout", "classifier_pooling")
    head = {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings", True),
        "bias": config.get("decoder_bias", True),
        "activation": config.activation("classifier_activation", "gelu"),
        "map_bias": config.get("classifier_bias", False),
        "norm": modernbert.norm_of(config),
    }
    table = modernbert.tower(config) | {"kind": "decoder", "head": head}
    window = config.get("sliding_window", config.get("local_attention", 128) // 2)
    for block in table["blocks"].values():
        if "window" in block["mixer"]:
            block["mixer"]["window"] = window
    return table


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a ModernBERT decoder, whose q, k and v are apart."""
    return [
        *(row for row in modernbert.tower_weights(config) if isinstance(row.ours, str)),
        *(row for row in modernbert.tower_weights(config) if "ffn" in row.ours[0]),
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{HF_BLOCK}.attn.{{q,k,v}}_proj"),
        *rows("head.{map,norm}", "lm_head.{dense,norm}"),
        *rows("head.{weight,bias}", "decoder.{weight,bias}"),
    ]


def local(view: View) -> Table:
    """How many tokens a layer with a window sees."""
    window = view.get("block.mixer.window")
    return {} if window is None else {"sliding_window": window, "local_attention": 2 * window}


MODERNBERT_DECODER = Family(
    model_types=("modernbert-decoder",),
    architecture=f"ModernBertDecoder{HEAD}",
    model=model,
    weights=weights,
    config=spelled(
        {key: told for key, told in modernbert.KEYS.items() if key != "classifier_pooling"},
        local,
        rotary_by_layer("global_rope_theta", "local_rope_theta"),
        # Their defaults are numbers of a vocabulary of 50,368.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id")),
    ),
    renames=(prefixed("model.", "lm_head.", "decoder."),),
    tied=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
)
