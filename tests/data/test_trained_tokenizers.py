"""Byte-level BPE and WordPiece, trained here: deterministic, of a given size, with controls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.tokenizers.byte_level_bpe import ByteLevelBpe
from mlx_transformers.data.tokenizers.load import load_tokenizer
from mlx_transformers.data.tokenizers.wordpiece import WordPiece

from .conftest import STDLIB

ROOT = Path(__file__).parents[2]
TEXT = (STDLIB / "argparse.py").read_text() + "É日本語😀 " * 3
KINDS = [
    ByteLevelBpe(vocab_size=600),
    ByteLevelBpe(vocab_size=600, controls="roberta"),
    WordPiece(vocab_size=600),
    WordPiece(vocab_size=600, lowercase=False),
]
MADE_ELSEWHERE = """
import sys
from mlx_transformers.data.tokenizers.byte_level_bpe import ByteLevelBpe
from mlx_transformers.data.tokenizers.wordpiece import WordPiece
text = sys.stdin.read()
for kind in (ByteLevelBpe(vocab_size=600), WordPiece(vocab_size=600)):
    print(kind.build([text]).fingerprint())
"""


def test_the_same_text_gives_the_same_tokenizer_in_any_process():
    here = [kind.build([TEXT]).fingerprint() for kind in KINDS]
    assert len(set(here)) == len(here)
    done = subprocess.run(
        [sys.executable, "-c", MADE_ELSEWHERE],
        input=TEXT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split() == here[::2]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.kind}")
def test_a_trained_tokenizer_has_its_size_and_survives_a_save(kind, tmp_path):
    made = kind.build([TEXT])
    assert made.vocab_size == 600
    made.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint() == made.fingerprint()
    assert again.encode(TEXT) == made.encode(TEXT)
    assert len(made.encode(TEXT)) < len(TEXT) / 2


def test_byte_level_bpe_loses_nothing_and_makes_no_control_token_of_text():
    for kind in KINDS[:2]:
        made = kind.build([TEXT])
        for text in (TEXT, "\u0000 \r\n\t<s></s><|endoftext|> \U0010ffff"):
            assert made.decode(made.encode(text)) == text
            assert not {made.bos_id, made.eos_id} & set(made.encode(text))


def test_wordpiece_is_berts(data):
    made = WordPiece(vocab_size=600).build([TEXT])
    assert made.decode(made.encode("PARSE the Arguments, É!")) == "parse the arguments, e!"
    unknown = made.encode("\u0416")
    assert len(unknown) == 1
    roles = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    assert [made.control_id(role, (name,)) for role, name in roles.items()] == [0, 2, 3, 4]
    table = {"kind": "wordpiece", "vocab_size": 600}
    prepared = prepare(data(tokenizer=table, batch={"kind": "mlm"}))
    # Its own control tokens are used: none is added for the masked rows.
    assert prepared.tokenizer.vocab_size == 600
    assert [prepared.tokenizer.control(role) for role in ("cls", "sep", "mask")] == [2, 3, 4]


@pytest.mark.parametrize("kind", KINDS[::2], ids=lambda kind: kind.kind)
def test_training_needs_words_and_the_package(kind, monkeypatch):
    with pytest.raises(DataError, match="no words"):
        kind.build(["  \n"])
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match="pip install tokenizers"):
        kind.build([TEXT])
