"""Published sentencepiece models, with the ids of their tokenizer class.

The file of a model numbers its pieces; the class that a model was published with may put control
tokens before them, leave some out, add others behind, or number pieces by a table of its own. Here
the pieces are put in the order of their published ids.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from ...core.errors import DataError
from . import languages
from .json_form import Form, added, pieces, template
from .model_proto import Model, Piece, parse, serialize
from .sentencepiece import SentencePieceTokenizer
from .settings import Settings

UNUSED = -100.0
"""Subtracted from the score of pieces that are never to be chosen."""

Layout = Callable[[Model, Settings], Model]


def _controls(names: Iterable[str]) -> list[Piece]:
    return [Piece(name, 0.0, "control") for name in names]


def _plain(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of text; control tokens of the file among them stay control tokens."""
    return [Piece(p.text, p.score, "control") if p.kind == "unknown" else p for p in pieces]


def as_is(model: Model, settings: Settings) -> Model:
    """The ids of the file: LLaMA, Gemma, BERT generation, Reformer."""
    return model


def with_mask(model: Model, settings: Settings) -> Model:
    """The ids of the file, and the mask behind them where the file lacks it (DeBERTa v2 and v3)."""
    mask = settings.name("mask", "[MASK]")
    if any(piece.text == mask for piece in model.pieces):
        return model
    return replace(model, pieces=[*model.pieces, *_controls([mask])])


def without_number_commas(model: Model, settings: Settings) -> Model:
    """The ids of the file; pieces that end in a digit and a comma are not used (ALBERT, XLNet)."""

    def lowered(piece: Piece) -> Piece:
        ends = len(piece.text) > 1 and piece.text[-1] == "," and piece.text[-2].isdigit()
        return replace(piece, score=piece.score + UNUSED) if ends else piece

    return replace(model, pieces=[lowered(piece) for piece in model.pieces])


def sentinels(model: Model, settings: Settings) -> Model:
    """The ids of the file, and T5's sentinels behind them, the first one last.

    Raffel et al. 2020, appendix; the class calls their number `extra_ids`.
    """
    n = settings.table.get("extra_ids")
    if not isinstance(n, int):
        n = 0 if any("extra_id_" in piece.text for piece in model.pieces) else 100
    names = [f"<extra_id_{i}>" for i in range(n - 1, -1, -1)]
    return replace(model, pieces=[*model.pieces, *_controls(names)])


def fairseq(after: Callable[[Settings], Iterable[str]]) -> Layout:
    """The order of fairseq's dictionaries: four control tokens, the pieces, `after`."""

    def laid(model: Model, settings: Settings) -> Model:
        before = [settings.name("bos", "<s>"), settings.name("pad", "<pad>")]
        before.append(settings.name("eos", "</s>"))
        unknown = Piece(settings.name("unk", "<unk>"), 0.0, "unknown")
        text = _plain(model.pieces[3:])
        last = _controls(after(settings))
        return replace(model, pieces=[*_controls(before), unknown, *text, *last])

    return laid


def _mask(settings: Settings) -> list[str]:
    return [settings.name("mask", "<mask>")]


def _with_languages(codes: Sequence[str]) -> Callable[[Settings], list[str]]:
    return lambda settings: [*codes, *_mask(settings)]


def camembert(model: Model, settings: Settings) -> Model:
    """CamemBERT: fairseq's four, of which two are not used, then the file's from its second."""
    unknown = Piece(settings.name("unk", "<unk>"), 0.0, "unknown")
    before = [
        *_controls(["<s>NOTUSED", settings.name("pad", "<pad>"), "</s>NOTUSED"]),
        unknown,
        *_controls(["<unk>NOTUSED"]),
    ]
    last = _controls(_mask(settings))
    return replace(model, pieces=[*before, *_plain(model.pieces[1:]), *last])


def pegasus(model: Model, settings: Settings) -> Model:
    """PEGASUS: 103 tokens of pretraining between its first two pieces and the others."""
    offset = settings.table.get("offset", 103)
    sentence, mask = settings.table.get("mask_token_sent", "<mask_1>"), settings.names.get("mask")
    masks = [text for text in (sentence, mask or "<mask_2>") if text is not None]
    unused = [f"<unk_{i}>" for i in range(2, offset)]
    between = [*masks, *unused] if offset else []
    return replace(model, pieces=[*model.pieces[:2], *_controls(between), *model.pieces[2:]])


LAYOUTS: dict[str, Layout] = {
    "AlbertTokenizer": without_number_commas,
    "BertGenerationTokenizer": as_is,
    "BigBirdTokenizer": as_is,
    "CamembertTokenizer": camembert,
    "DebertaV2Tokenizer": with_mask,
    "FNetTokenizer": as_is,
    "MBart50Tokenizer": fairseq(_with_languages(languages.MBART50)),
    "MBartTokenizer": fairseq(_with_languages(languages.MBART)),
    "MT5Tokenizer": sentinels,
    "NllbTokenizer": fairseq(_with_languages(languages.NLLB)),
    "PegasusTokenizer": pegasus,
    "ReformerTokenizer": as_is,
    "RemBertTokenizer": as_is,
    "T5Tokenizer": sentinels,
    "XGLMTokenizer": fairseq(lambda settings: [f"<madeupword{i}>" for i in range(7)]),
    "XLMRobertaTokenizer": fairseq(_mask),
    "XLNetTokenizer": without_number_commas,
}
"""How the ids of a class are laid out."""

FRAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "AlbertTokenizer": (("[CLS]",), ("[SEP]",)),
    "BigBirdTokenizer": (("[CLS]",), ("[SEP]",)),
    "CamembertTokenizer": (("<s>",), ("</s>",)),
    "DebertaV2Tokenizer": (("[CLS]",), ("[SEP]",)),
    "FNetTokenizer": (("[CLS]",), ("[SEP]",)),
    "MT5Tokenizer": ((), ("</s>",)),
    "PegasusTokenizer": ((), ("</s>",)),
    "RemBertTokenizer": (("[CLS]",), ("[SEP]",)),
    "T5Tokenizer": ((), ("</s>",)),
    "XGLMTokenizer": (("</s>",), ()),
    "XLMRobertaTokenizer": (("<s>",), ("</s>",)),
    "XLNetTokenizer": ((), ("<sep>", "<cls>")),
}
"""Tokens that a class puts before and after a text, by their usual names."""

LOWERED = {"AlbertTokenizer": True, "XLNetTokenizer": False, "DebertaV2Tokenizer": False}
"""Classes with `do_lower_case`, and its default."""


def piece_form(content: bytes, name: str, settings: Settings) -> Form:
    """A published sentencepiece model of the class `name` as a `tokenizer.json`.

    Raises:
        DataError: the form can't express it, or a setting isn't built.
        ValueError: the file is none of sentencepiece.
    """
    if settings.option("split_by_punct", False):
        raise DataError(
            f"tokenizer_config.json has split_by_punct = true, which isn't built for {name}. "
            "Publish the tokenizer as a tokenizer.json."
        )
    model = LAYOUTS[name](parse(content), settings)
    special = {*settings.names.values(), *settings.additional}
    listed = [
        replace(p, kind="control") if p.kind == "user" and p.text in special else p
        for p in model.pieces
    ]
    model = replace(model, pieces=listed)
    form = pieces(model, _normalizers(name, settings))
    if form is None:
        raise DataError(
            f"The {name} of this folder is a sentencepiece model of the kind "
            f"'{model.model_type}' with the rule '{model.normalization}', which isn't built. "
            "Publish it as a tokenizer.json."
        )
    ids = {piece.text: i for i, piece in enumerate(model.pieces)}
    before, after = FRAMES.get(name, ((), ()))
    form["post_processor"] = template(before, after, ids)
    return form


def _normalizers(name: str, settings: Settings) -> list[Form]:
    """Normalizers of the class that come before those of the file."""
    normalizers: list[Form] = []
    if name in ("AlbertTokenizer", "XLNetTokenizer"):
        for quotes in ("``", "''"):
            normalizers.append({"type": "Replace", "pattern": {"String": quotes}, "content": '"'})
        if not settings.option("keep_accents", False):
            normalizers += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if name in LOWERED and settings.option("do_lower_case", LOWERED[name]):
        normalizers.append({"type": "Lowercase"})
    return normalizers


def by_table(
    content: bytes, vocab: bytes, further: Sequence[str], settings: Settings
) -> SentencePieceTokenizer:
    """A model whose pieces have the ids of `vocab.json`: M2M-100 and Marian.

    Pieces that the table lacks become the unknown token, and entries that the model lacks are
    never made from text. Marian's separate model of the target cuts targets; here the model of the
    source does, so that targets of training may be cut elsewhere. Punctuation isn't normalised.

    Args:
        content: the sentencepiece model.
        vocab: `vocab.json`.
        further: control tokens behind the table.
        settings: the published settings.
    """
    model, table = parse(content), json.loads(vocab)
    texts = _in_order(table, further)
    by_text: Mapping[str, Piece] = {piece.text: piece for piece in model.pieces}
    unknown = settings.name("unk", "<unk>")
    control = {settings.name(*pair) for pair in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"))}
    control |= {*settings.names.values(), *settings.additional, *further} - {unknown}

    def entry(text: str) -> Piece:
        if text == unknown:
            return Piece(text, 0.0, "unknown")
        if text in control or (text.startswith(">>") and text.endswith("<<")):
            return Piece(text, 0.0, "control")
        piece = by_text.get(text)
        return Piece(text, 0.0, "unused") if piece is None else piece

    listed = [entry(text) for text in texts]
    others = [p for p in model.pieces if p.text not in set(texts) and p.kind in ("normal", "user")]
    return SentencePieceTokenizer(
        serialize(replace(model, pieces=[*listed, *others])),
        published=True,
        unknown_from=len(listed) if others else None,
        ends=settings.ends,
    )


def m2m_further(settings: Settings) -> list[str]:
    """M2M-100's language tokens and made-up words, which follow its table."""
    wmt = settings.table.get("language_codes") == "wmt21"
    codes = languages.WMT21 if wmt else languages.M2M100
    n = settings.table.get("num_madeup_words", 8)
    made_up = [f"madeupword{i}" for i in range(n if isinstance(n, int) else 8)]
    return [*(f"__{code}__" for code in codes), *made_up]


def _in_order(table: object, further: Sequence[str]) -> list[str]:
    """The texts of all ids, those that the table leaves out named by their number."""
    if not isinstance(table, dict) or not all(isinstance(i, int) for i in table.values()):
        raise ValueError("vocab.json is not a table of tokens and numbers")
    text_of = {i: text for text, i in table.items()}
    size = max(text_of, default=-1) + 1
    if size > 4 * len(text_of) + 1000 or min(text_of, default=0) < 0:
        raise ValueError("vocab.json has numbers that are not those of a vocabulary")
    texts = [text_of.get(i, f"<unused_{i}>") for i in range(size)]
    return texts + [text for text in further if text not in table]


def extended(form: Form, settings: Settings) -> Form:
    """A `tokenizer.json` with the added tokens of the settings that it lacks.

    Raises:
        DataError: an added token's id is taken, or ids are missing before it.
    """
    vocab = form["model"]["vocab"]
    entries = enumerate(v[0] for v in vocab) if isinstance(vocab, list) else None
    ids = {text: i for i, text in entries} if entries else dict(vocab)
    listed = {token_entry["content"]: token_entry for token_entry in form.get("added_tokens") or []}
    ids |= {text: token_entry["id"] for text, token_entry in listed.items()}
    tokens = list(form.get("added_tokens") or [])
    for number, token in sorted(settings.added.items()):
        if token.text in listed:
            continue
        listed_id = ids.get(token.text)
        if listed_id is None and number in set(ids.values()):
            raise DataError(f"The added token {token.text!r} has the id {number}, which is taken.")
        if listed_id is not None and listed_id != number:
            raise DataError(
                f"The added token {token.text!r} has the id {number}, but the vocabulary has it "
                f"as {listed_id}."
            )
        if listed_id is None and number != max(ids.values(), default=-1) + 1:
            raise DataError(
                f"The added token {token.text!r} has the id {number}, but the vocabulary ends at "
                f"{max(ids.values(), default=-1)}: tokens between them are missing. Copy the "
                "tokenizer's files from their source again, or number the added tokens in "
                "added_tokens.json or tokenizer_config.json (added_tokens_decoder) without a gap."
            )
        ids[token.text] = number
        tokens.append({**added(number, token.text, token.special), **token.flags})
    return {**form, "added_tokens": tokens}
