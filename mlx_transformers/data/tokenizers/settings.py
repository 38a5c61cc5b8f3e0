"""The settings published beside a tokenizer: its class, special tokens, added tokens and ends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""Special tokens that have a key of their own, `bos_token` and so on."""

CLASS_OF_MODEL = {
    "albert": "AlbertTokenizer",
    "barthez": "BarthezTokenizer",
    "bart": "BartTokenizer",
    "bert": "BertTokenizer",
    "big_bird": "BigBirdTokenizer",
    "blenderbot": "BlenderbotTokenizer",
    "camembert": "CamembertTokenizer",
    "clip": "CLIPTokenizer",
    "clip_text_model": "CLIPTokenizer",
    "ctrl": "CTRLTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "esm": "EsmTokenizer",
    "gpt2": "GPT2Tokenizer",
    "longformer": "LongformerTokenizer",
    "m2m_100": "M2M100Tokenizer",
    "marian": "MarianTokenizer",
    "mbart": "MBartTokenizer",
    "mpnet": "MPNetTokenizer",
    "mt5": "T5Tokenizer",
    "openai-gpt": "OpenAIGPTTokenizer",
    "opt": "GPT2Tokenizer",
    "pegasus": "PegasusTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "rembert": "RemBertTokenizer",
    "roberta": "RobertaTokenizer",
    "t5": "T5Tokenizer",
    "umt5": "T5Tokenizer",
    "xglm": "XGLMTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": "XLMRobertaTokenizer",
    "xlnet": "XLNetTokenizer",
}
"""The tokenizer class of a `model_type` whose folder names none."""


BERT_NAMES = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
FAIRSEQ_NAMES = {
    "bos": "<s>",
    "eos": "</s>",
    "sep": "</s>",
    "cls": "<s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}
T5_NAMES = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
NAMES_OF_CLASS: dict[str, dict[str, str]] = {
    **dict.fromkeys(
        (
            *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
            *("ConvBertTokenizer", "SqueezeBertTokenizer", "LayoutLMTokenizer", "LxmertTokenizer"),
        ),
        BERT_NAMES,
    ),
    "DebertaTokenizer": {**BERT_NAMES, "bos": "[CLS]", "eos": "[SEP]"},
    "DebertaV2Tokenizer": {**BERT_NAMES, "bos": "[CLS]", "eos": "[SEP]"},
    "AlbertTokenizer": {
        **BERT_NAMES,
        "bos": "[CLS]",
        "eos": "[SEP]",
        "unk": "<unk>",
        "pad": "<pad>",
    },
    "BigBirdTokenizer": {
        **BERT_NAMES,
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
        "pad": "<pad>",
    },
    "RemBertTokenizer": {
        **BERT_NAMES,
        "bos": "[CLS]",
        "eos": "[SEP]",
        "unk": "<unk>",
        "pad": "<pad>",
    },
    "CLIPTokenizer": {
        "bos": "<|startoftext|>",
        **dict.fromkeys(("eos", "unk", "pad"), "<|endoftext|>"),
    },
    "BlenderbotTokenizer": FAIRSEQ_NAMES,
    "FunnelTokenizer": {
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
        "sep": "<sep>",
        "pad": "<pad>",
        "cls": "<cls>",
        "mask": "<mask>",
    },
    "XLNetTokenizer": {**FAIRSEQ_NAMES, "sep": "<sep>", "cls": "<cls>"},
    "EsmTokenizer": {
        "unk": "<unk>",
        "cls": "<cls>",
        "pad": "<pad>",
        "mask": "<mask>",
        "eos": "<eos>",
        "sep": "<eos>",  # the class ends a text with it and has no separator
    },
    "MPNetTokenizer": {**FAIRSEQ_NAMES, "unk": "[UNK]"},
    **dict.fromkeys(
        (
            *("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer"),
            *("XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "MBart50Tokenizer"),
            *("NllbTokenizer", "M2M100Tokenizer", "XGLMTokenizer", "MvpTokenizer"),
        ),
        FAIRSEQ_NAMES,
    ),
    "T5Tokenizer": T5_NAMES,
    "ByT5Tokenizer": T5_NAMES,
    "MT5Tokenizer": T5_NAMES,
    "MarianTokenizer": T5_NAMES,
    "PegasusTokenizer": {**T5_NAMES, "mask": "<mask_2>"},
    "GPT2Tokenizer": {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
    "Qwen2Tokenizer": {"eos": "<|endoftext|>", "pad": "<|endoftext|>"},
    "LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "CodeLlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "GemmaTokenizer": {
        "bos": "<bos>",
        "eos": "<eos>",
        "unk": "<unk>",
        "pad": "<pad>",
        "mask": "<mask>",
    },
}
"""Special tokens of a class where its settings name none."""


@dataclass(frozen=True)
class AddedToken:
    """A token added to a vocabulary.

    Attributes:
        text: its content.
        special: whether it is a control token, which ordinary text never gives.
        flags: `single_word`, `lstrip`, `rstrip`, `normalized`, as the tokenizers library has them.
    """

    text: str
    special: bool
    flags: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """The settings of a published tokenizer.

    Attributes:
        table: `tokenizer_config.json`.
        names: text of the special token of each of `ROLES`, as named here or by the class.
        additional: texts of further special tokens.
        added: added tokens by id.
        ends: ids that end a text: every `eos_token_id` of the model's configs.
        tokenizer_class: name of the published class without "Fast"; None where nothing names it.
    """

    table: Mapping[str, Any]
    names: Mapping[str, str]
    additional: tuple[str, ...]
    added: Mapping[int, AddedToken]
    ends: tuple[int, ...]
    tokenizer_class: str | None

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> "Settings":
        """Read the settings from the files of a folder, by name.

        Raises:
            ValueError: one of them is not a JSON object, or a special token is no string.
        """
        table = _table(files, "tokenizer_config.json")
        special = _table(files, "special_tokens_map.json")
        config = _table(files, "config.json")
        model_type = config.get("model_type")
        class_name = table.get("tokenizer_class") or config.get("tokenizer_class")
        class_name = class_name or CLASS_OF_MODEL.get(
            model_type if isinstance(model_type, str) else ""
        )
        class_name = class_name.removesuffix("Fast") if isinstance(class_name, str) else None
        names = dict(NAMES_OF_CLASS.get(class_name or "", {}))
        for role in ROLES:
            key = f"{role}_token"
            if key in table or key in special:
                token = table[key] if key in table else special[key]
                if not isinstance(token, str | dict | None):
                    raise ValueError(f"{key} is {token!r}, and a special token is a string")
                text = text_of(token)
                names = {n: t for n, t in names.items() if n != role}
                names |= {} if text is None else {role: text}
        extra: Any = []
        for source in (special, table):
            for key in ("additional_special_tokens", "extra_special_tokens"):
                value = source.get(key) or []
                value = list(value.values()) if isinstance(value, dict) else value
                extra = [*extra, *(value if isinstance(value, list) else [])]
        additional = tuple(dict.fromkeys(t for t in map(text_of, extra) if t is not None))
        added = _added(table, _table(files, "added_tokens.json"), {*names.values(), *additional})
        ends: list[int] = []
        for source in (_table(files, "generation_config.json"), config):
            value = source.get("eos_token_id")
            ids: list[Any] = value if isinstance(value, list) else [value]
            ends += [number for number in ids if _is_id(number)]
        return cls(table, names, additional, added, tuple(dict.fromkeys(ends)), class_name)

    def option(self, name: str, otherwise: bool) -> bool:
        """A switch of `tokenizer_config.json`, or its default in the class."""
        value = self.table.get(name)
        return otherwise if value is None else bool(value)

    @property
    def has_no_bos(self) -> bool:
        """Whether the class has no `bos_token`, or the settings set it to null, as Qwen's do."""
        null = self.table.get("bos_token", "") is None
        return "bos" not in self.names and (null or self.tokenizer_class == "Qwen2Tokenizer")

    def name(self, role: str, otherwise: str) -> str:
        """The text of a special token, or its default in the class."""
        return self.names.get(role, otherwise)


def text_of(token: object) -> str | None:
    """The text of a special token, which is a string or an object with one."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _table(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        table = json.loads(files.get(name, b"{}"))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not a JSON object")
    return table


def _added(
    table: Mapping[str, Any], plain: Mapping[str, Any], special: set[str]
) -> dict[int, AddedToken]:
    """Added tokens by id: those of `added_tokens.json`, then of `added_tokens_decoder`."""
    tokens: dict[int, AddedToken] = {}
    for text, number in plain.items():
        if _is_id(number):
            tokens[number] = AddedToken(text, text in special)
    entries = table.get("added_tokens_decoder")
    for key, entry in (entries if isinstance(entries, dict) else {}).items():
        content = text_of(entry)
        if content is None or not (isinstance(key, str) and key.isascii() and key.isdigit()):
            raise ValueError(f"added_tokens_decoder has the entry {key!r}, which names no token")
        fields = entry if isinstance(entry, dict) else {}
        flags = {n: bool(fields.get(n)) for n in ("single_word", "lstrip", "rstrip", "normalized")}
        tokens[int(key)] = AddedToken(
            content, bool(fields.get("special", content in special)), flags
        )
    return tokens
