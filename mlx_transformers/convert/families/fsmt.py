"""FSMT, the translators of fairseq's WMT19: BART's blocks, a table of words for each language.

Defaults are those of `FSMTConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..view import View, spelled
from ..weights import Row, rows
from . import bart

MEMBER = bart.Member(
    embed_norm=False,
    position=bart.FAIRSEQ,
    logits_bias=False,
    defaults={
        "vocab_size": 42024,
        "activation_function": "relu",
        "scale_embedding": True,
        "decoder_start_token_id": 2,
    },
)


def model(config: HfConfig) -> Table:
    """The `[model]` table of an FSMTConfig.

    Raises:
        ConvertError: the languages have vocabularies of two sizes.
    """
    config.ignore("langs", "num_hidden_layers", "decoder", "share_decoder_input_output_embed")
    sizes = [config.get(f"{side}_vocab_size", 42024) for side in ("src", "tgt")]
    if sizes[0] != sizes[1]:
        raise ConvertError(
            f"{config.where}: src_vocab_size = {sizes[0]} and tgt_vocab_size = {sizes[1]} differ, "
            "and one size for both languages is built."
        )
    config.assume(vocab_size=sizes[0], tie_word_embeddings=False)
    return bart.model(MEMBER, config)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an FSMT."""
    config.assume(vocab_size=config.get("tgt_vocab_size", 42024), tie_word_embeddings=False)
    head = Row("head.weight", "model.decoder.output_projection.weight")
    words = rows("{encoder,decoder}.embed.table", "model.{encoder,decoder}.embed_tokens")
    ours = {row.ours for row in (head, *words)}
    return [head, *words, *(row for row in bart.weights(MEMBER, config) if row.ours not in ours)]


def vocabularies(view: View) -> Table:
    """The vocabularies of both languages."""
    return {f"{side}_vocab_size": view.get("vocab_size") for side in ("src", "tgt")}


FSMT = Family(
    model_types=("fsmt",),
    architecture="FSMTForConditionalGeneration",
    model=model,
    weights=weights,
    config=spelled(
        {key: told for key, told in bart.KEYS.items() if key != "vocab_size"},
        vocabularies,
        bart.padded,
        langs=["de", "en"],
    ),
    renames=((r"^(?!model\.)", "model."),),
    dropped=(r"embed_positions\.weights?$",),
    tied=tuple(
        (f"model.{name}.weight", "model.decoder.embed_tokens.weight")
        for name in ("decoder.output_projection", "encoder.embed_tokens")
    ),
)
