"""LED, the Longformer encoder-decoder: BART with Longformer's attention in the encoder.

Beltagy et al. 2020, section 7. Defaults are those of `LEDConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, PathOrFn, config_writer
from ..rows import Row, rows, without
from . import bart
from .longformer import with_windows

MEMBER = bart.Member(position={"kind": "learned"})


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an LEDConfig."""
    config.ignore("encoder_layerdrop", "decoder_layerdrop", "classifier_dropout")
    config.ignore("decoder_start_token_id", "num_hidden_layers")
    longest = config.get("max_encoder_position_embeddings")
    length = config.get("max_decoder_position_embeddings")
    encoder = bart.tower(MEMBER, config, "encoder")
    decoder = bart.tower(MEMBER, config, "decoder")
    if length != longest:
        decoder["position"] = {"kind": "learned", "length": length}
    return {
        "kind": "encoder_decoder",
        "dim": config.get("d_model"),
        "max_seq_len": longest,
        "vocab_size": config.get("vocab_size"),
        "encoder": with_windows(config, encoder, config.get("encoder_layers")),
        "decoder": decoder,
        "head": {
            "kind": "lm",
            "tied": bool(config.get("tie_word_embeddings")),
            "bias": bart.has_logits_bias(MEMBER, config),
        },
        "init": {"kind": "normal", "std": config.get("init_std")},
    }


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an LED."""
    ours, theirs = "encoder.stack.blocks.{i}.mixer", "model.encoder.layers.{i}.self_attn"
    inside = f"{theirs}.longformer_self_attn"
    shared = bart.weights(MEMBER, config)
    names = [f"{ours}.{name}" for name in "qkvo"]
    weight_map = [
        *without(shared, *names),
        *rows(f"{ours}.{{q,k,v}}", f"{inside}.{{query,key,value}}"),
        *rows(f"{ours}.global_{{q,k,v}}", f"{inside}.{{query,key,value}}_global"),
        Row(f"{ours}.o", f"{theirs}.output"),
    ]
    return [led_name(row) for row in weight_map]


def led_name(row: Row) -> Row:
    """Return a row of BART's with LED's name of the model around its towers."""
    theirs = str(row.theirs)
    return Row(row.ours, theirs.replace("model.", "led.", 1), row.via)


def lengths(view: FlatModel) -> Table:
    """Return the numbers of positions of both sides."""
    longest = view.get("max_seq_len")
    decoder_length = view.get("decoder.position.length")
    return {
        "max_encoder_position_embeddings": longest,
        "max_decoder_position_embeddings": decoder_length
        if isinstance(decoder_length, int)
        else longest,
    }


def attention_windows(view: FlatModel) -> list[int]:
    """Return the whole width of each encoder layer's window."""
    return [2 * (layer["mixer"]["window"] - 1) for layer in view.get("encoder")["layers"]]


LEFT_OUT = ("max_position_embeddings", "scale_embedding")
KEYS: dict[str, PathOrFn] = {
    **{key: path for key, path in bart.KEYS.items() if key not in LEFT_OUT},
    "attention_window": attention_windows,
}

LED = Family(
    model_types=("led",),
    architecture="LEDForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(KEYS, lengths),
    defaults={"scale_embedding": False},
    renames=((r"^(?!led\.|lm_head\.|final_logits_bias)", "led."),),
    spare=(r"^led\.shared\.weight$",),
    tied=tuple(
        (f"{name}.weight", "led.shared.weight")
        for name in ("lm_head", "led.encoder.embed_tokens", "led.decoder.embed_tokens")
    ),
)
