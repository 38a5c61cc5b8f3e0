"""T5Gemma: Gemma 2 on both sides of an encoder-decoder, with a cross attention like its own.

Defaults are those of `T5GemmaConfig` and `T5GemmaModuleConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import FlatModel, config_writer
from ..rope import rotary
from ..rows import Row, rows
from .gemma2 import SANDWICHED
from .gemma2 import model as gemma2

SIDES = ("encoder", "decoder")
OF_STACK = ("n_layers", "embed", "position", "block", "blocks", "pattern", "norm")
NORMS = {"mixer": "self_attn", "cross": "cross_attn", "ffn": "feedforward"}
"""Our residual connections, and what the names of their norms hold."""


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a T5GemmaConfig.

    Raises:
        ConvertError: the two sides differ in width.
    """
    config.ignore("classifier_dropout_rate", "decoder_start_token_id", "initializer_range")
    config.ignore("attention_dropout")
    rate = float(config.get("dropout_rate"))
    tables = {side: gemma2(of_side(config, side)) for side in SIDES}
    encoder, decoder = tables["encoder"], tables["decoder"]
    if encoder["dim"] != decoder["dim"]:
        raise config.refuse("encoder.hidden_size", encoder["dim"], "only the decoder's is")
    for table in tables.values():
        table["block"]["dropout"] = rate
        table["block"]["ffn"]["dropout"] = rate
    widen(encoder, 1)
    # the source is seen whole, even where every layer has a window on what was written
    cross = {key: value for key, value in decoder["block"]["mixer"].items() if key != "window"}
    decoder["block"]["cross"] = cross | {"kind": "cross_attention"}
    sides = {
        side: {key: table[key] for key in OF_STACK if key in table}
        for side, table in tables.items()
    }
    config.ignore("vocab_size")
    return {
        "kind": "encoder_decoder",
        **{key: decoder[key] for key in ("dim", "max_seq_len", "init")},
        "vocab_size": config.data.get("vocab_size", decoder["vocab_size"]),
        **sides,
        "shared": False,
        "head": decoder["head"] | {"tied": config.get("tie_word_embeddings")},
    }


def widen(table: Table, by: int) -> None:
    """Widen sliding windows: a bidirectional one doesn't count the token itself."""
    for block in (table["block"], *(table.get("blocks") or {}).values()):
        if (mixer := block.get("mixer", {})).get("window"):
            mixer["window"] += by


def of_side(config: HfConfig, side: str) -> HfConfig:
    """Return the config of one side; its keys that Gemma 2 lacks are accepted."""
    section = config.section(side)
    section.ignore("is_decoder", "cross_attention_hidden_size", "dropout_rate")
    return section


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a T5Gemma."""
    weight_map = [Row("head", "lm_head.out_proj")]
    for side in SIDES:
        ours, theirs = f"{side}.stack.blocks.{{i}}", f"model.{side}.layers.{{i}}"
        weight_map += [
            Row(f"{side}.embed.table", f"model.{side}.embed_tokens"),
            Row(f"{side}.norm", f"model.{side}.norm"),
            *rows(f"{ours}.ffn.{{gate,up,down}}", f"{theirs}.mlp.{{gate,up,down}}_proj"),
            *rows(f"{ours}.mixer.{{q,k,v,o}}", f"{theirs}.self_attn.{{q,k,v,o}}_proj"),
            *rows(f"{ours}.cross.{{q,k,v,o}}", f"{theirs}.cross_attn.{{q,k,v,o}}_proj"),
        ]
        for sublayer, name in NORMS.items():
            norms = f"{theirs}.{{pre,post}}_{name}_layernorm"
            weight_map += rows(f"{ours}.{sublayer}_residual.{{pre,post}}", norms)
    return weight_map


def sides(view: FlatModel) -> Table:
    """Return the configs of both sides."""
    around = {key: value for key, value in view.table.items() if key not in SIDES}
    module = config_writer(SANDWICHED, rotary())
    configs = {side: module({**around, **view.table[side]}) for side in SIDES}
    if window := configs["encoder"].get("sliding_window"):
        configs["encoder"]["sliding_window"] = window - 1
    return configs


T5GEMMA = Family(
    model_types=("t5gemma",),
    architecture="T5GemmaForConditionalGeneration",
    model=model,
    weights=weights,
    config=config_writer(
        {
            "vocab_size": "vocab_size",
            "dropout_rate": "decoder.block.dropout",
            "tie_word_embeddings": "head.tied",
        },
        sides,
    ),
    tied=(("lm_head.out_proj.weight", "model.decoder.embed_tokens.weight"),),
)
