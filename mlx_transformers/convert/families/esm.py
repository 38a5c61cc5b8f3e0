"""ESM-1b and ESM-2, models of proteins: norms in front, learned or rotary positions.

A masked token has no vector, and the others grow, as if it had been dropped out. Defaults are those
of `EsmConfig`.
"""

from dataclasses import replace

from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..flat_model import FlatModel, config_writer
from ..rows import Row, rows
from ..task_heads import architecture_of
from .bert import (
    ENCODER_KEYS,
    HEADS,
    TENSORFLOW_NAMES,
    pad_offset,
    roberta_extras,
    roberta_head,
    tower,
)
from .bert_relatives import BESIDE, DENSE, QKV, norms, pre_norm

PREFIX = "esm."
EXTRAS = roberta_extras(PREFIX)


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of an EsmConfig."""
    config.ignore("vocab_list", "esmfold_config")
    config.expect("is_folding_model", False)
    config.ignore("rope_theta")
    kind = config.get("position_embedding_type")
    turned = kind == "rotary"
    pad = config.get("pad_token_id")
    if pad is None and not turned:
        raise config.refuse("pad_token_id", pad, "positions begin behind a number")
    offset = 0 if turned else pad + 1
    placed = "rotary" if turned else "absolute"
    table = tower(config, offset=offset, positions=placed)
    table = pre_norm(config, table, embed_norm=bool(config.get("emb_layer_norm_before")))
    table["embed"].pop("n_types", None)
    table["embed"]["dropout"] = 0.0  # their code has none there
    if config.get("token_dropout"):
        table["embed"]["zeroed"] = config.get("mask_token_id")
    config.ignore("mask_token_id")
    if turned:
        table["position"] = {"kind": "rope", "theta": float(config.get("rope_theta"))}
    return table | roberta_head(config, PREFIX).tables()


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of an ESM."""
    theirs = f"{PREFIX}encoder.layer.{{i}}"
    last = f"{PREFIX}encoder.emb_layer_norm_after"
    return [
        Row("embed.table", f"{PREFIX}embeddings.word_embeddings"),
        Row("embed.norm", f"{PREFIX}embeddings.layer_norm"),
        Row("position.table", f"{PREFIX}embeddings.position_embeddings"),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, "attention.LayerNorm", "LayerNorm", last),
        # an untied decoder has no bias of its own here
        *(
            replace(row, theirs=row.theirs.replace("lm_head.decoder.bias", "lm_head.bias"))
            if isinstance(row.theirs, str)
            else row
            for row in roberta_head(config, PREFIX).rows
        ),
    ]


def placed(view: FlatModel) -> Table:
    """Return the positions and the handling of masked tokens."""
    keys: Table = {
        "emb_layer_norm_before": True if view.has("embed.norm") else None,
        "token_dropout": view.has("embed.zeroed"),
    }
    if view.has("embed.zeroed"):
        keys["mask_token_id"] = view.get("embed.zeroed")
    # the positions of a layer are the stack's, where they are rotary
    if view.get("block.position.kind") == "rope":
        turned = view.get("block.position.theta")
        return keys | {"position_embedding_type": "rotary", "rope_theta": turned}
    return keys | pad_offset(view) | {"position_embedding_type": "absolute"}


ESM = Family(
    model_types=("esm",),
    architecture="EsmForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            key: path
            for key, path in ENCODER_KEYS.items()
            if key not in ("hidden_act", "type_vocab_size")
        },
        placed,
        architecture_of("Esm"),
    ),
    defaults={"vocab_size": 33, "pad_token_id": 1, "hidden_act": "gelu"},
    renames=(*TENSORFLOW_NAMES, prefixed(PREFIX, *HEADS)),
    dropped=(r"\.rotary_embeddings\.inv_freq$",),
    # ESM-2 turns, and its files hold a table of positions all the same
    spare=(*EXTRAS["spare"], r"contact_head\.", r"\.position_embeddings\.weight$"),
    tied=EXTRAS["tied"],
)
