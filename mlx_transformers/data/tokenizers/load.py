"""Reading back a tokenizer that was saved."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import DataError, unknown
from ...core.parse import read_table
from ...core.paths import inside, plain_name
from .byte import ByteTokenizer
from .char import CharTokenizer
from .controls import with_controls
from .hf import HfTokenizer
from .numbers import NumberTokenizer
from .sentencepiece import SentencePieceTokenizer
from .settings import Settings
from .tokenizer import Tokenizer
from .words import WordTokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {
    cls.kind: cls
    for cls in (
        CharTokenizer,
        WordTokenizer,
        ByteTokenizer,
        SentencePieceTokenizer,
        HfTokenizer,
        NumberTokenizer,
    )
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote into `folder`.

    Raises:
        DataError: it is absent, damaged, or of a kind that isn't known.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = read_table(path)
        kind = manifest["kind"]
        content = inside(path.parent, str(manifest["file"]), DataError).read_bytes()
    except FileNotFoundError as error:
        raise DataError(_unreadable(path.parent, f"{error.filename} is missing")) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(_unreadable(path.parent, error)) from error
    if not isinstance(kind, str) or kind not in TOKENIZERS:
        raise DataError(unknown(f"tokenizer kind in {path}:", str(kind), TOKENIZERS))
    digest = hashlib.sha256(kind.encode() + b"\n" + content).hexdigest()
    if digest != manifest.get("fingerprint"):
        raise DataError(_unreadable(path.parent, "its file is not the one its manifest names"))
    try:
        found = _built(kind, content, manifest)
        names = manifest.get("companions", [])
        found.companions = companions = {
            plain_name(name, "a tokenizer file", DataError): inside(
                path.parent, name, DataError
            ).read_bytes()
            for name in names
        }
        if "ends" not in manifest:  # a run of an older version
            found.ends = Settings.read(companions).ends
        return with_controls(found, manifest.get("controls", {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(_unreadable(path.parent, error)) from error


def _built(kind: str, content: bytes, manifest: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file and what its manifest says beside it."""
    ends = [int(number) for number in manifest.get("ends", [])]
    if TOKENIZERS[kind] is HfTokenizer:
        return HfTokenizer(
            content,
            manifest.get("bos"),
            manifest.get("eos"),
            names=manifest.get("names"),
            ends=ends,
            begins_with_bos=manifest.get("begins_with_bos"),
        )
    if TOKENIZERS[kind] is SentencePieceTokenizer:
        return SentencePieceTokenizer(
            content,
            published=manifest.get("published", False),
            unknown_from=manifest.get("unknown_from"),
            ends=ends,
            begins_with_bos=manifest.get("begins_with_bos", False),
            legacy=manifest.get("legacy", True),
        )
    return TOKENIZERS[kind].read(content)


def _unreadable(folder: Path, reason: object) -> str:
    return (
        f"The tokenizer in {folder} can't be read: {str(reason).rstrip('.')}. If it belongs to a "
        "prepared set, remove that folder and run again: it is made anew. If it belongs to a run, "
        "copy it back from the prepared set that the run was trained on."
    )
