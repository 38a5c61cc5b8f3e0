"""Tokenizers as models are published with them: read from a folder, and written into one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from .class_options import LLAMA, metaspace, with_class_options
from .controls import Controlled
from .hf import HfTokenizer
from .json_form import added, json_form
from .model_proto import without_prefix
from .pair_merges import byte_pairs, clip_pairs, qwen_pairs, word_pairs
from .piece_layouts import LAYOUTS, by_table, extended, m2m_further, piece_form
from .sentencepiece import SentencePieceTokenizer
from .settings import Settings
from .tokenizer import Tokenizer
from .word_pieces import offset_bytes, residues, word_piece

JSON = "tokenizer.json"
SENTENCEPIECE = (
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"),
    *("sentencepiece.model", "source.spm"),
)
TABLES = ("vocab.json", "merges.txt", "vocab.txt", "target.spm")
LLAMA_LIKE = (
    *("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "BaichuanTokenizer"),
    *("InternLMTokenizer", "InternLM2Tokenizer", "OrionTokenizer", "PreTrainedTokenizer"),
)
"""Classes whose ids are those of the sentencepiece file."""
BEGIN_WITH_BOS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
"""Those that put BOS before a text unless `add_bos_token` says otherwise."""
BYTE_PAIRS: dict[str, tuple[str, str] | None] = {
    "GPT2Tokenizer": None,
    "CodeGenTokenizer": None,
    "WhisperTokenizer": None,
    "GPTNeoXTokenizer": None,
    "RobertaTokenizer": ("<s>", "</s>"),
    "BartTokenizer": ("<s>", "</s>"),
    "LongformerTokenizer": ("<s>", "</s>"),
    "LEDTokenizer": ("<s>", "</s>"),
    "MvpTokenizer": ("<s>", "</s>"),
    "DebertaTokenizer": ("[CLS]", "[SEP]"),
    "BlenderbotTokenizer": ("", "</s>"),
}
"""Classes of byte-level pair encoding, with the tokens before and after a text ("" for none)."""
WORD_PIECES = {
    **dict.fromkeys(
        (
            *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
            *("ConvBertTokenizer", "SqueezeBertTokenizer", "LayoutLMTokenizer", "LxmertTokenizer"),
            *("RetriBertTokenizer", "DPRQuestionEncoderTokenizer", "DPRContextEncoderTokenizer"),
        ),
        ("[CLS]", "[SEP]"),
    ),
    "MPNetTokenizer": ("<s>", "</s>"),
    "FunnelTokenizer": ("<cls>", "<sep>"),
}
"""Classes of BERT's word pieces, with the tokens before and after a text."""
NAMED_NUMBERS: dict[str, Callable[[Settings], Sequence[str]]] = {
    "M2M100Tokenizer": lambda settings: m2m_further(settings),
    "MarianTokenizer": lambda settings: (),
}
"""Classes whose ids are those of `vocab.json`, with the control tokens behind them."""
WRONG = (TypeError, LookupError, AttributeError, RecursionError)
"""Errors of code that gets a value of another type than a tokenizer's file has."""
SETTINGS = "tokenizer_config.json"
TRAVELLERS = (
    *(SETTINGS, "special_tokens_map.json", "added_tokens.json", "generation_config.json"),
    *("chat_template.jinja", "chat_template.json", *SENTENCEPIECE, *TABLES),
)
"""Files that are kept beside a tokenizer, for whoever asks for a chat template or exports it."""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a published folder with all that came beside it; None where there is none.

    A `tokenizer.json` is taken before a sentencepiece model, and that before word lists.

    Raises:
        DataError: there is one, and it can't be read.
    """
    travellers = {n: (folder / n).read_bytes() for n in TRAVELLERS if (folder / n).is_file()}
    try:
        tokenizer = _read(folder, travellers)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"The tokenizer in {folder} can't be read: {error}.") from error
    except WRONG as error:
        raise DataError(
            f"The tokenizer in {folder} can't be read: a key has a value of another type than it "
            f"has there ({type(error).__name__}: {error})."
        ) from error
    if tokenizer is not None:
        travellers = {n: c for n, c in travellers.items() if c != tokenizer.serialize()}
        tokenizer.companions = travellers
    return tokenizer


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files that other libraries open as this tokenizer, by name; none for bare numbers.

    What came with it when it was imported goes out as it came in.
    """
    inner = tokenizer.inner if isinstance(tokenizer, Controlled) else tokenizer
    files = dict(tokenizer.companions)
    form = _form(inner)
    if inner is not tokenizer and form is not None:
        added_tokens = form.get("added_tokens", [])
        form["added_tokens"] = added_tokens + _controls(tokenizer, inner)
    if isinstance(inner, HfTokenizer) and inner is tokenizer:
        files[JSON] = inner.serialize()
    elif form is not None:
        files[JSON] = (json.dumps(form, ensure_ascii=False, indent=1) + "\n").encode()
    if isinstance(inner, SentencePieceTokenizer) and not any(n in files for n in SENTENCEPIECE):
        files.setdefault("tokenizer.model", inner.serialize())
    if files and SETTINGS not in files:
        files[SETTINGS] = (json.dumps(_settings(inner), indent=1) + "\n").encode()
    return files


def _form(tokenizer: Tokenizer) -> dict[str, Any] | None:
    if isinstance(tokenizer, HfTokenizer):
        return dict(json.loads(tokenizer.serialize()))
    return json_form(tokenizer)


def _controls(tokenizer: Tokenizer, inner: Tokenizer) -> list[dict[str, Any]]:
    """Entries for control tokens that the inner vocabulary lacks."""
    roles = tokenizer.controls.items()
    return [added(n, f"<|{role}|>") for role, n in roles if n >= inner.vocab_size]


def control_tokens(tokenizer: Tokenizer, begins: str | None = None) -> dict[str, int]:
    """The keys of a config that name control tokens, as far as it has them.

    Args:
        tokenizer: the tokenizer of the run.
        begins: the role of the token that begins a target, for what writes beside a source.
    """
    roles = tokenizer.controls
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": roles.get("end", tokenizer.eos_id),
        "decoder_start_token_id": roles.get(begins) if begins else None,
        **{f"{role}_token_id": roles.get(role) for role in ("pad", "cls", "sep", "mask")},
    }
    return {name: number for name, number in ids.items() if number is not None}


def _read(folder: Path, travellers: Mapping[str, bytes]) -> Tokenizer | None:
    config = folder / "config.json"
    files = {**travellers, **({"config.json": config.read_bytes()} if config.is_file() else {})}
    settings = Settings.read(files)
    if (folder / JSON).is_file():
        content = (folder / JSON).read_bytes()
        return _library(json.loads(content), settings, content)
    name = settings.tokenizer_class
    model = next((travellers[n] for n in SENTENCEPIECE if n in travellers), None)
    if name in NAMED_NUMBERS and model is not None and "vocab.json" in travellers:
        further = NAMED_NUMBERS[name](settings)
        return by_table(model, travellers["vocab.json"], further, settings)
    if model is not None:
        return _pieces(model, name, settings)
    if "vocab.json" in travellers and "merges.txt" in travellers:
        form = _merges(travellers["vocab.json"], travellers["merges.txt"], name, settings)
        return _library(form, settings)
    if "vocab.txt" in travellers:
        return _library(_words(travellers["vocab.txt"], name, settings), settings)
    if name == "ByT5Tokenizer":
        return _library(offset_bytes(settings), settings)
    if "tokenizer_class" in settings.table and name is not None:
        raise DataError(_without_files(name, folder))
    return None


def _library(form: dict[str, Any], settings: Settings, content: bytes | None = None) -> HfTokenizer:
    """A `tokenizer.json` (with its file's `content`, if it has one) and the settings beside it."""
    if not isinstance(form, dict) or not isinstance(form.get("model"), dict):
        raise ValueError("not a tokenizer.json")
    complete = with_class_options(form, settings)
    complete = extended(complete, settings) if settings.added else complete
    if content is None or complete != form:
        content = json.dumps(complete, ensure_ascii=False).encode()
    vocab = form["model"].get("vocab") or {}
    texts = {v[0] for v in vocab} if isinstance(vocab, list) else set(vocab)
    texts |= {token["content"] for token in complete.get("added_tokens") or []}
    names = {role: text for role, text in settings.names.items() if text in texts}
    begins = settings.table.get("add_bos_token")
    return HfTokenizer(
        content,
        names.get("bos", "" if settings.has_no_bos else None),
        names.get("eos"),
        names={role: text for role, text in names.items() if role not in ("bos", "eos", "unk")},
        ends=settings.ends,
        begins_with_bos=begins if isinstance(begins, bool) else None,
    )


def _pieces(model: bytes, name: str | None, settings: Settings) -> Tokenizer:
    """A sentencepiece model, with the ids of its class."""
    if name in LAYOUTS:
        return _library(piece_form(model, name, settings), settings)
    if name is not None and name not in LLAMA_LIKE:
        raise DataError(_not_built(name))
    begins = settings.option("add_bos_token", name in BEGIN_WITH_BOS)
    # LlamaTokenizer of transformers 5 has `legacy` off unless it is set; CodeLlamaTokenizer has it
    # off whatever is set.
    legacy = settings.option("legacy", name not in LLAMA) and name != "CodeLlamaTokenizer"
    if not settings.option("add_prefix_space", True):
        model = without_prefix(model)
    plain = SentencePieceTokenizer(
        model, published=True, ends=settings.ends, begins_with_bos=begins, legacy=legacy
    )
    base_pieces = plain.parsed().pieces
    new = {
        i: t
        for i, t in settings.added.items()
        if i >= len(base_pieces) or base_pieces[i].text != t.text
    }
    named = {role: plain.token_of(text) for role, text in settings.names.items()}
    usual = {"bos": plain.bos_id, "eos": plain.eos_id}
    form = json_form(plain)
    alike = not new and all(named.get(role, number) == number for role, number in usual.items())
    # Spaces in front of a text are LlamaTokenizer's own, not those of sentencepiece.
    if alike and (form is None or name not in LLAMA):
        return plain
    if form is None:
        raise DataError(
            f"The sentencepiece model of this folder has added tokens, and its rule "
            f"'{plain.parsed().normalization}' can't be combined with them here. Publish the "
            "tokenizer as a tokenizer.json."
        )
    if name in LLAMA:
        form = metaspace(form, "always" if legacy else "first")
    extended_form = _library(form, replace(settings, added=new))
    extended_form.begins_with_bos = begins
    return HfTokenizer(
        extended_form.serialize(),
        extended_form.bos,
        extended_form.eos,
        names=extended_form.names,
        ends=settings.ends,
        begins_with_bos=begins,
    )


def _merges(vocab: bytes, merges: bytes, name: str | None, settings: Settings) -> dict[str, Any]:
    if name == "OpenAIGPTTokenizer":
        return word_pairs(vocab, merges, settings)
    if name == "Qwen2Tokenizer":
        return qwen_pairs(vocab, merges, settings)
    if name == "CLIPTokenizer":
        return clip_pairs(vocab, merges, settings)
    if name is None or name in BYTE_PAIRS:
        frames = BYTE_PAIRS.get(name or "")
        return byte_pairs(vocab, merges, settings, frames, composed=name == "GPTNeoXTokenizer")
    raise DataError(_not_built(name))


def _words(vocab: bytes, name: str | None, settings: Settings) -> dict[str, Any]:
    if name == "EsmTokenizer":
        return residues(vocab, settings)
    if name is None or name in WORD_PIECES:
        return word_piece(vocab, settings, WORD_PIECES.get(name or "", ("[CLS]", "[SEP]")))
    raise DataError(_not_built(name))


def _without_files(name: str, folder: Path) -> str:
    files = ", ".join((JSON, *SENTENCEPIECE[:2], "vocab.json with merges.txt"))
    return (
        f"{folder / SETTINGS} names the tokenizer_class {name!r}, but {folder} has none of the "
        f"files that it is read from ({files} or vocab.txt). Copy them from where the model comes "
        f"from; or take tokenizer_class out of {SETTINGS} to open the model without a tokenizer, "
        "on token ids."
    )


def _not_built(name: str) -> str:
    return (
        f"tokenizer_class = '{name}' isn't built without a tokenizer.json. Save one with "
        "transformers (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), if the class "
        "has a fast form), or choose a folder that has one."
    )


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    if isinstance(tokenizer, HfTokenizer):
        names = {"bos_token": tokenizer.bos or "", "eos_token": tokenizer.eos or ""}
    have = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{name: names[name] for name, number in have.items() if number is not None},
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_eos_token": False,
    }
