"""Tokenizers of exports in the hands of transformers itself, which mlx-lm brings with it."""

import json
import os
from pathlib import Path

import pytest

from mlx_transformers.assembly.saved import load
from mlx_transformers.data.tokenizers.char import Char
from mlx_transformers.data.tokenizers.published import tokenizer_files
from mlx_transformers.data.tokenizers.sentencepiece import SentencePiece
from mlx_transformers.data.tokenizers.tokenizer import Tokenizer
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.import_run import import_run

from .published import write

pytest.importorskip("mlx_lm")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
AutoTokenizer = pytest.importorskip("transformers").AutoTokenizer

TEXT = "to be or not to be,\n\nthat is  the question: whether 'tis nobler é 日本 12345\n" * 20
TEXTS = ("to be", "two  spaces\n\n\nthree lines \té日", " that's it", "12345")
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
KINDS = {"char": Char(), "bpe": SentencePiece(vocab_size=300)}


def folder(path: Path, tokenizer: Tokenizer, template: bool = True) -> Path:
    """A published model with these files of a tokenizer, and a chat template beside them."""
    source = write(path, "llama", vocab_size=400)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (source / name).unlink()
    for name, content in tokenizer_files(tokenizer).items():
        (source / name).write_bytes(content)
    if template:
        (source / "chat_template.jinja").write_text(TEMPLATE)
    return source


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_gives_the_tokens_of_the_run(kind: str, tmp_path: Path) -> None:
    ours = KINDS[kind].build([TEXT, *TEXTS])
    run = import_run(folder(tmp_path / "model", ours), root=tmp_path / "runs")
    out = export_run(run.path, "hf", tmp_path / "out")
    theirs, (_, kept) = AutoTokenizer.from_pretrained(out), load(run.path)
    for text in TEXTS:
        tokens = theirs(text, add_special_tokens=False)["input_ids"]
        assert tokens == ours.encode(text) == kept.encode(text)
        assert theirs.decode(tokens) == text
    assert theirs.eos_token_id == ours.eos_id
    messages = [{"role": "user", "content": "to be?"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == "<user>to be?"


def test_a_sentencepiece_model_alone_becomes_what_transformers_reads(tmp_path: Path) -> None:
    ours = KINDS["bpe"].build([TEXT, *TEXTS])
    source = folder(tmp_path / "model", ours)
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").unlink()
    model = (source / "tokenizer.model").read_bytes()
    run = import_run(source, root=tmp_path / "runs")
    out = export_run(run.path, "hf", tmp_path / "out")
    assert (out / "tokenizer.model").read_bytes() == model
    theirs = AutoTokenizer.from_pretrained(out)
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)


def test_a_template_inside_the_settings_is_kept(tmp_path: Path) -> None:
    ours = KINDS["char"].build([TEXT, *TEXTS])
    source = folder(tmp_path / "model", ours, template=False)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(
        json.dumps(settings | {"chat_template": TEMPLATE})
    )
    run = import_run(source, root=tmp_path / "runs")
    theirs = AutoTokenizer.from_pretrained(export_run(run.path, "hf", tmp_path / "out"))
    assert theirs.chat_template == TEMPLATE
