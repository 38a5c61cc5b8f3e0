"""ModernBERT's decoder (Ettin): the same layers, seen one way, under a head over words.

Defaults are those of `ModernBertDecoderConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rope import rotary_by_layer
from ..rows import BLOCK, Row, rows, without
from . import modernbert
from .modernbert import HF_BLOCK

HEAD = "ForCausalLM"


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a ModernBertDecoderConfig.

    Raises:
        ConvertError: a class without the head over words.
    """
    if config.architecture and not config.architecture.endswith(HEAD):
        raise config.refuse("architectures", config.architecture, f"only a class {HEAD} is")
    config.ignore("classifier_dropout", "classifier_pooling")
    head = {
        "kind": "mlm",
        "tied": config.get("tie_word_embeddings"),
        "bias": config.get("decoder_bias"),
        "activation": config.activation("classifier_activation"),
        "map_bias": config.get("classifier_bias"),
        "norm": modernbert.norm_of(config),
    }
    table = modernbert.tower(config) | {"kind": "decoder", "head": head}
    window = config.optional("sliding_window") or config.get("local_attention") // 2
    for block in table["blocks"].values():
        if "window" in block["mixer"]:
            block["mixer"]["window"] = window
    return table


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a ModernBERT decoder, whose q, k and v are apart."""
    return [
        *without(modernbert.tower_weights(config), *(f"{BLOCK}.mixer.{x}" for x in "qkv")),
        *rows(f"{BLOCK}.mixer.{{q,k,v}}", f"{HF_BLOCK}.attn.{{q,k,v}}_proj"),
        *rows("head.{map,norm}", "lm_head.{dense,norm}"),
        *rows("head.{weight,bias}", "decoder.{weight,bias}"),
    ]


def local(view: FlatModel) -> Table:
    """Return the number of tokens that a local layer sees."""
    window = view.get("block.mixer.window")
    return {} if window is None else {"sliding_window": window, "local_attention": 2 * window}


MODERNBERT_DECODER = Family(
    model_types=("modernbert-decoder",),
    architecture=f"ModernBertDecoder{HEAD}",
    model=model,
    weights=weights,
    config=config_writer(
        {key: path for key, path in modernbert.KEYS.items() if key != "classifier_pooling"},
        local,
        rotary_by_layer("global_rope_theta", "local_rope_theta"),
        # Their defaults are numbers of a vocabulary of 50,368.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id")),
    ),
    defaults=modernbert.THETAS,
    renames=(prefixed("model.", "lm_head.", "decoder."),),
    tied=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
)
