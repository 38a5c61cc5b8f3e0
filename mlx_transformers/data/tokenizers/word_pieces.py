"""Published word lists (`vocab.txt`) as a `tokenizer.json`: BERT's family and ESM's."""

import json
import math
import re
from typing import Any

from ...core.errors import DataError
from .json_form import Form, added, byte_characters, byte_level, form, template
from .settings import Settings

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def words(content: bytes) -> list[str]:
    """The entries of a word list, one a line; only line feeds end a line (with CR or without)."""
    lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and lines[-1] == "" else lines


def word_piece(content: bytes, settings: Settings, ends: tuple[str, str]) -> Form:
    """WordPiece after BERT's basic tokenizer.

    Devlin et al. 2018; the greedy longest-match-first search of Schuster and Nakajima 2012.

    Args:
        content: `vocab.txt`.
        settings: the published settings.
        ends: the class's default tokens before and after a text.

    Raises:
        DataError: the settings ask for something that isn't built.
    """
    if not settings.option("do_basic_tokenize", True):
        raise DataError(
            "tokenizer_config.json has do_basic_tokenize = false, which isn't built: text would "
            "be cut at white space alone. Publish the tokenizer as a tokenizer.json."
        )
    table = {word: i for i, word in enumerate(words(content))}
    never_split = settings.table.get("never_split") or []
    # Special tokens are kept whole in any case.
    strange = [word for word in never_split if word not in SPECIAL and word not in table]
    if strange:
        raise DataError(
            f"tokenizer_config.json has {strange[0]!r} in never_split, but vocab.txt doesn't have "
            "it, so it would be unknown in every text."
        )
    before, after = settings.name("cls", ends[0]), settings.name("sep", ends[1])
    unknown = settings.name("unk", "[UNK]")
    names = (*SPECIAL, *settings.names.values(), before, after, *settings.additional)
    special = [added(table[n], n) for n in dict.fromkeys(names) if n in table]
    unsplit = [
        added(table[w], w, special=False) for w in never_split if w in table and w not in names
    ]
    return form(
        {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": table,
        },
        added_tokens=special + [{**token, "single_word": True} for token in unsplit],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.option("tokenize_chinese_chars", True),
            "strip_accents": settings.table.get("strip_accents"),
            "lowercase": settings.option("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template([before], [after], table),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )


def offset_bytes(settings: Settings) -> Form:
    """ByT5's tokens (Xue et al. 2021): three control tokens, the 256 bytes, then sentinels.

    The sentinels are those that the settings list, in that order unless `added_tokens_decoder` has
    another, then those of `extra_ids` that are missing.

    Raises:
        DataError: `extra_ids` is no count.
    """
    count = settings.table.get("extra_ids", 125)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise DataError(
            f"tokenizer_config.json has extra_ids = {json.dumps(count)}, which has to be the "
            "number of sentinels, 0 or more."
        )
    names = [settings.name(*pair) for pair in (("pad", "<pad>"), ("eos", "</s>"), ("unk", "<unk>"))]
    numbered = [f"<extra_id_{i}>" for i in range(count)]
    listed = [text for text in settings.additional if text not in names]
    places = {token.text: i for i, token in settings.added.items()}
    sentinels = sorted(
        dict.fromkeys((*listed, *numbered)), key=lambda text: places.get(text, math.inf)
    )
    texts = [*names, *byte_characters(), *sentinels]
    table = {text: i for i, text in enumerate(texts)}
    trims = {"lstrip": True, "rstrip": True}
    control = [{**added(table[text], text), **trims} for text in names]
    return form(
        {"type": "BPE", "vocab": table, "merges": []},
        added_tokens=[*control, *(added(table[text], text) for text in sentinels)],
        pre_tokenizer=byte_level(words=False),
        post_processor=template((), [names[1]], table),
        decoder=byte_level(words=False),
    )


def residues(content: bytes, settings: Settings) -> Form:
    """ESM's tokens: each entry of the word list is one, wherever it stands in a text.

    Lin et al. 2022 (ESM-2): amino acids need no spaces between them.
    """
    entries = words(content)
    table = {word: i for i, word in enumerate(entries)}
    names = ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>", *settings.names.values())
    special = [n for n in dict.fromkeys(names) if n in table]
    plain = sorted((w for w in table if w and w not in special), key=len, reverse=True)
    pattern = "|".join(re.escape(word) for word in plain)
    pieces: list[dict[str, Any]] = [{"type": "WhitespaceSplit"}]
    if plain:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        pieces.append({**split, "invert": False})
    return form(
        {"type": "WordLevel", "vocab": table, "unk_token": settings.name("unk", "<unk>")},
        added_tokens=[added(table[name], name) for name in special],
        pre_tokenizer={"type": "Sequence", "pretokenizers": pieces},
        post_processor=template(
            [settings.name("cls", "<cls>")], [settings.name("eos", "<eos>")], table
        ),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
    )
