"""FSMT, the translators of fairseq's WMT19: BART's blocks, a table of words for each language.

Defaults are those of `FSMTConfig`.
"""

from ...core.errors import ConvertError
from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rows import Row, rows, without
from . import bart

MEMBER = bart.Member(embed_norm=False, position=bart.FAIRSEQ, logits_bias=False)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an FSMTConfig.

    Raises:
        ConvertError: the languages have vocabularies of two sizes.
    """
    config.ignore("langs", "num_hidden_layers", "decoder", "share_decoder_input_output_embed")
    sizes = [config.get(f"{side}_vocab_size") for side in ("src", "tgt")]
    if sizes[0] != sizes[1]:
        raise ConvertError(
            f"{config.where}: src_vocab_size = {sizes[0]} and tgt_vocab_size = {sizes[1]} differ, "
            "and one size for both languages is built."
        )
    config.assume({"vocab_size": sizes[0]})
    return bart.model(MEMBER, config)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an FSMT."""
    config.assume({"vocab_size": config.get("tgt_vocab_size")})
    head = Row("head.weight", "model.decoder.output_projection.weight")
    tables = rows("{encoder,decoder}.embed.table", "model.{encoder,decoder}.embed_tokens")
    plain = without(bart.weights(MEMBER, config), *(row.ours for row in (head, *tables)))
    return [head, *tables, *plain]


def vocabularies(view: FlatModel) -> Table:
    """Return the vocabulary sizes of both languages."""
    return {f"{side}_vocab_size": view.get("vocab_size") for side in ("src", "tgt")}


FSMT = Family(
    model_types=("fsmt",),
    architecture="FSMTForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(
        {key: path for key, path in bart.KEYS.items() if key != "vocab_size"},
        vocabularies,
        bart.pad_offset,
        langs=["de", "en"],
    ),
    defaults={"tie_word_embeddings": False},
    renames=((r"^(?!model\.)", "model."),),
    dropped=(r"embed_positions\.weights?$",),
    tied=tuple(
        (f"model.{name}.weight", "model.decoder.embed_tokens.weight")
        for name in ("decoder.output_projection", "encoder.embed_tokens")
    ),
)
