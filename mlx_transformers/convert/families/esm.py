"""ESM-1b and ESM-2, models of proteins: norms in front, learned or rotary positions.

A masked token has no vector, and the others grow, as if it had been dropped out. Defaults are those
of `EsmConfig`.
"""

from ..answers import asked
from ..config import HfConfig
from ..family import Family, Table, prefixed
from ..view import View, spelled
from ..weights import Row, rows
from .bert import HEADS, NAMES, TOWER, padded, roberta_answer, roberta_extras, tower
from .bert_relatives import BESIDE, DENSE, QKV, in_front, norms

PREFIX = "esm."
EXTRAS = roberta_extras(PREFIX)


def model(config: HfConfig) -> Table:
    """The `[model]` table of an EsmConfig."""
    config.ignore("vocab_list", "esmfold_config")
    config.expect("is_folding_model", False)
    config.assume(max_position_embeddings=1026, vocab_size=33, pad_token_id=1)
    config.ignore("rope_theta")
    kind = config.get("position_embedding_type", "absolute")
    turned = kind == "rotary"
    pad = config.get("pad_token_id")
    if pad is None and not turned:
        raise config.refuse("pad_token_id", pad, "positions begin behind a number")
    offset = 0 if turned else pad + 1
    placed = "rotary" if turned else "absolute"
    table = tower(config, vocab_size=33, offset=offset, positions=placed)
    table = in_front(config, table, embed_norm=bool(config.get("emb_layer_norm_before", None)))
    table["embed"].pop("n_types")
    table["embed"]["dropout"] = 0.0  # their code has none there
    if config.get("token_dropout", False):
        table["embed"]["zeroed"] = config.get("mask_token_id")
    config.ignore("mask_token_id")
    if turned:
        table["position"] = {"kind": "rope", "theta": float(config.get("rope_theta", 10000.0))}
    return table | roberta_answer(config, PREFIX).tables()


def weights(config: HfConfig) -> list[Row]:
    """The weight map of an ESM."""
    theirs = f"{PREFIX}encoder.layer.{{i}}"
    last = f"{PREFIX}encoder.emb_layer_norm_after"
    return [
        Row("embed.table", f"{PREFIX}embeddings.word_embeddings"),
        Row("embed.norm", f"{PREFIX}embeddings.layer_norm"),
        Row("position.table", f"{PREFIX}embeddings.position_embeddings"),
        *rows(QKV, f"{theirs}.attention.self.{{query,key,value}}"),
        *rows(BESIDE, f"{theirs}.{DENSE}"),
        *norms(theirs, "attention.LayerNorm", "LayerNorm", last),
        *roberta_answer(config, PREFIX).rows,
    ]


def placed(view: View) -> Table:
    """The positions, and what becomes of masked tokens."""
    said: Table = {
        "emb_layer_norm_before": True if view.has("embed.norm") else None,
        "token_dropout": view.has("embed.zeroed"),
    }
    if view.has("embed.zeroed"):
        said["mask_token_id"] = view.get("embed.zeroed")
    # the positions of a layer are the stack's, where they are rotary
    if view.get("block.position.kind") == "rope":
        turned = view.get("block.position.theta")
        return said | {"position_embedding_type": "rotary", "rope_theta": turned}
    return said | padded(view) | {"position_embedding_type": "absolute"}


ESM = Family(
    model_types=("esm",),
    architecture="EsmForMaskedLM",
    model=model,
    weights=weights,
    config=spelled(
        {key: told for key, told in TOWER.items() if key not in ("hidden_act", "type_vocab_size")},
        placed,
        asked("Esm"),
    ),
    renames=(*NAMES, prefixed(PREFIX, *HEADS)),
    dropped=(r"\.rotary_embeddings\.inv_freq$",),
    # ESM-2 turns, and its files hold a table of positions all the same
    spare=(*EXTRAS["spare"], r"contact_head\.", r"\.position_embeddings\.weight$"),
    tied=EXTRAS["tied"],
)
