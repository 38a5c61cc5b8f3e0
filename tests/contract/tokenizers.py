"""Rows of the slot `tokenizer`, the text they are trained on, and the files they read."""

import json
from pathlib import Path

from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.controls import with_controls
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece

from .suite import Row

# Longer than the sample that the row `sentencepiece` trains on, and not alike throughout.
TEXT = "".join(
    f"{n} green bottles hanging on the wall, {n * n} é ö\n"
    f"{'if one' if n % 2 else 'should another'} number {n * 37 % 101} fall...\n"
    for n in range(300)
)

NUMBERS = "3 1 4 1 5 9"
"""What the kind `numbers` can read."""

ROWS = [
    Row("tokenizer", "char", {"kind": "char"}),
    Row("tokenizer", "words", {"kind": "words"}),
    Row("tokenizer", "byte", {"kind": "byte"}),
    Row("tokenizer", "sentencepiece", {"kind": "sentencepiece", "vocab_size": 400}),
    Row("tokenizer", "byte-level BPE", {"kind": "byte_level_bpe", "vocab_size": 400}),
    Row("tokenizer", "wordpiece", {"kind": "wordpiece", "vocab_size": 200}),
    Row("tokenizer", "tokenizer json", {"kind": "tokenizer_json", "path": "words.json"}),
    Row("tokenizer", "numbers", {"kind": "numbers", "vocab_size": 20}),
    Row("tokenizer", "saved", {"kind": "saved", "path": "subwords"}),
]

CHANGES = {
    "char": {},
    "words": {"vocab_size": 20, "min_count": 40, "letters": True},
    "byte": {},
    "sentencepiece": {
        "vocab_size": 350,
        "model_type": "unigram",
        "byte_fallback": False,
        "sample_bytes": 5000,
        "path": "small.model",
    },
    "byte_level_bpe": {"vocab_size": 350, "controls": "roberta", "sample_bytes": 5000},
    "wordpiece": {"vocab_size": 150, "lowercase": False, "sample_bytes": 5000},
    "tokenizer_json": {"path": "letters.json", "bos": "two", "eos": "green"},
    "numbers": {"vocab_size": 30},
    "saved": {"path": "bytes"},
}


def write_files(folder: Path) -> None:
    """The files that the rows and changes name."""
    words = ["[UNK]", "</s>", "<s>", "two", "green", "bottles", ",", "12", "é"]
    for name, vocab in (("words", words), ("letters", [*words[:3], *"twogrenbls"])):
        table = {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {
                "type": "WordLevel",
                "unk_token": "[UNK]",
                "vocab": {word: i for i, word in enumerate(dict.fromkeys(vocab))},
            },
        }
        (folder / f"{name}.json").write_text(json.dumps(table))
    subwords = SentencePiece(vocab_size=320).build([TEXT])
    (folder / "small.model").write_bytes(subwords.serialize())
    with_controls(subwords, ("cls", "sep")).save(folder / "subwords")
    ByteTokenizer().save(folder / "bytes")
