"""Reading a `config.json` of Hugging Face so that no option is passed over.

A family reads the keys that it builds. A key that it doesn't read is compared with the reference
(`reference.py`): one that the family's config class or its modelling code knows is an error
unless it holds its default, since a model that ignores an option gives wrong outputs silently.
One that the reference doesn't know has no effect there either: it is reported and passed over.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConvertError, FormatError, unknown
from ..core.parse import read_json
from .reference import aliases_of, defaults_of

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "linear": "identity",
    "mish": "mish",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "relu2": "relu2",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Reference name of an activation to ours. `gelu_fast` rounds one constant of the tanh form."""

NO_EFFECT = frozenset(
    {
        # what the file is, and who wrote it
        *("model_type", "architectures", "transformers_version", "_name_or_path", "auto_map"),
        *("_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "attn_type"),
        *("tokenizer_class", "name_or_path", "finetuning_task", "task_specific_params"),
        # how it is stored and run, not what it computes
        *("dtype", "torch_dtype", "use_cache", "pretraining_tp", "use_bfloat16", "torchscript"),
        *("gradient_checkpointing", "use_flash_attn", "return_dict", "tf_legacy_loss"),
        *("output_attentions", "output_hidden_states", "output_router_logits", "onnx_export"),
        *("chunk_size_feed_forward", "is_encoder_decoder", "use_return_dict", "output_past"),
        *("_num_labels", "static_position_embeddings", "transformers.js_config"),
        # labels and the special tokens that a tokenizer or a generation loop uses
        *("id2label", "label2id", "problem_type", "prefix", "bos_token_id", "eos_token_id"),
        *("pad_token_id", "sep_token_id", "unk_token_id", "cls_token_id", "mask_token_id"),
        # options of generation that old files keep here
        *("max_length", "min_length", "num_beams", "do_sample", "temperature", "top_k", "top_p"),
        *("early_stopping", "length_penalty", "repetition_penalty", "no_repeat_ngram_size"),
        *("num_return_sequences", "num_beam_groups", "diversity_penalty", "typical_p"),
        *("bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"),
        *("begin_suppress_tokens", "remove_invalid_values", "return_dict_in_generate"),
        *("cache_implementation", "keys_to_ignore_at_inference", "is_decoder_only"),
        *("output_scores", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty"),
    }
)
"""Keys that don't change what the model computes from given tokens."""

NEUTRAL: dict[str, Any] = {
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_decoder": False,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
}
"""Keys that any config may have, and their only value that is built."""

MAX_SIZE = 2**31 - 1
MAX_COUNT = 16_384
COUNTS = re.compile(
    r"(layer|head|expert|group|block)s?$|^n_(layer|head)|^num_.*(layer|head|expert)"
)
"""Keys whose numbers count modules, each of which is built."""

STORAGE = ("quantization_config", "quantization", "compression_config")
"""Tables that say that tensors are quantized, and how."""


def their_activation(ours: str) -> str:
    """Return the reference name of one of our activations.

    Raises:
        ConvertError: the reference has none.
    """
    if ours in ("elu", "selu"):
        raise ConvertError(
            f"The format has no activation '{ours}': transformers knows none of that name."
        )
    return {"gelu_tanh": "gelu_new", "gelu_quick": "quick_gelu", "identity": "linear"}.get(
        ours, ours
    )


class HfConfig:
    """A config read key by key, which remembers the keys that were read.

    Attributes:
        where: the file, as error messages name it.
        data: the tables of the file.
        tensors: names of the file's tensors as transformers saves them today; empty without a
            file. Some options follow from which tensors are there.
    """

    def __init__(
        self, data: Mapping[str, Any], where: str = "config.json", reference: str | None = None
    ) -> None:
        """Read `data`.

        Args:
            data: the table.
            where: the file, as error messages name it.
            reference: the reference config class: None takes the table's `model_type`.
        """
        self.data = dict(data)
        self.where = where
        self.tensors: frozenset[str] = frozenset()
        self._reference = self.model_type if reference is None else reference
        self._read: set[str] = set()
        self._defaults: dict[str, Any] = dict(defaults_of(self._reference))
        self._sections: dict[str, HfConfig] = {}
        self._aliases = aliases_of(self._reference)
        self._synonyms = {**self._aliases, **{key: name for name, key in self._aliases.items()}}

    @property
    def model_type(self) -> str:
        """The family's name."""
        return str(self.data.get("model_type", ""))

    @property
    def architecture(self) -> str:
        """The saved class, as in "LlamaForCausalLM"; empty if the config names none."""
        names = self.data.get("architectures")
        first = names[0] if isinstance(names, list) and names else names
        return first if isinstance(first, str) else ""

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def assume(self, defaults: Mapping[str, Any]) -> None:
        """Let these defaults go before those of the reference config class."""
        self._defaults.update(defaults)

    def get(self, key: str) -> Any:
        """Return the value of `key` or of its second name, or its default.

        Raises:
            ConvertError: the file lacks it and it has no default, or it is text where its default
                is a number.
        """
        self._read.add(key)
        synonym = self._synonyms.get(key, key)
        if key in self.data:
            if self.data.get(synonym, self.data[key]) == self.data[key]:
                self._read.add(synonym)
            return self._checked(key, _number(self.data[key]))
        if synonym in self.data:
            return self.get(synonym)
        for name in (key, synonym):
            if name in self._defaults:
                return self._defaults[name]
        raise ConvertError(f"{self.where} lacks '{key}', which has no default.")

    def _checked(self, key: str, value: object) -> Any:
        default = self._defaults.get(key)
        if isinstance(value, str) and isinstance(default, int | float):
            raise ConvertError(
                f"{self.where}: {key} = {value!r} is text and has to be like {default!r}."
            )
        return value

    def optional(self, key: str) -> Any:
        """Return the value of `key`, its default, or None if it has neither."""
        names = {key, self._synonyms.get(key, key)}
        return self.get(key) if names & {*self.data, *self._defaults} else None

    def expect(self, key: str, value: object) -> None:
        """Accept only one `value` of an option whose other values are not built.

        Raises:
            ConvertError: it has another.
        """
        actual = self.optional(key)
        unset = actual is None and key not in self.data
        if not unset and actual != value:
            raise self.refuse(key, actual, f"only {value!r} is")

    def refuse(self, key: str, given: object, instead: str = "") -> ConvertError:
        """Return the error for an option whose value isn't built."""
        return ConvertError(
            f"{self.where}: {key} = {given!r} is not built{'; ' if instead else ''}{instead}. The "
            "model can't be imported without giving other outputs than its own."
        )

    def activation(self, key: str) -> str:
        """Return our name of the activation under `key`.

        Raises:
            ConvertError: it is none of ours.
        """
        name = self.get(key)
        if name not in ACTIVATIONS:
            sentence = unknown("activation", str(name), ACTIVATIONS)
            raise ConvertError(f"{self.where}: {key}: {sentence}")
        return ACTIVATIONS[name]

    def ignore(self, *keys: str) -> None:
        """Mark keys as read that have no effect in this family."""
        self._read.update(keys)

    def section(self, key: str) -> "HfConfig":
        """Return the table under `key` (empty if there is none); its keys are checked too."""
        if key not in self._sections:
            self.watched(key, self.optional(key) or {}, f"{self._reference}.{key}")
        return self._sections[key]

    def watched(self, name: str, data: Mapping[str, Any], reference: str = "") -> "HfConfig":
        """Return a table made from this config, whose keys are checked too."""
        inner = HfConfig(data, f"{self.where}, {name}", reference)
        self._sections[name] = inner
        return inner

    def finish(self) -> None:
        """Refuse options that are set and not built.

        Raises:
            ConvertError: a key that changes the outputs of the reference was not read.
        """
        second = {alias: self.data.get(key) for alias, key in self._aliases.items()}
        known = {**NEUTRAL, **defaults_of(self._reference), **second}
        not_built = {
            key: value
            for key, value in self.data.items()
            if key in known and self._is_open(key) and not _equal(value, known[key])
        }
        not_built |= {
            key: self.data[key] for key in STORAGE if self.data.get(key) and self._is_open(key)
        }
        if not_built:
            listed = ", ".join(
                f"{key} = {json.dumps(value)[:60]}" for key, value in not_built.items()
            )
            raise ConvertError(
                f"{self.where} sets what is not built for {self.model_type or 'this model'}: "
                f"{listed}. Importing it would give other outputs than the model's own."
            )
        for inner in self._sections.values():
            inner.finish()

    def passed_over(self) -> list[str]:
        """Return the keys that neither the family nor the reference knows, of all tables."""
        known = {*defaults_of(self._reference), *self._aliases, *NEUTRAL, *STORAGE}
        unknown_keys = [key for key in self.data if key not in known and self._is_open(key)]
        inner = [key for section in self._sections.values() for key in section.passed_over()]
        return [*unknown_keys, *inner]

    def _is_open(self, key: str) -> bool:
        """Whether a key has a value, was not read, and isn't bookkeeping."""
        value = self.data[key]
        return not (key in self._read or key in NO_EFFECT or value is None)


def check_sizes(data: object, where: str, key: str = "") -> None:
    """Refuse sizes that no model has, before a loop or an allocation of that size.

    Raises:
        ConvertError: a number beyond 2^31, or more layers, heads or experts than `MAX_COUNT`.
    """
    if isinstance(data, Mapping):
        for name, value in data.items():
            check_sizes(value, where, str(name))
    elif isinstance(data, list):
        for value in data:
            check_sizes(value, where, key)
    elif isinstance(data, int):
        limit = MAX_COUNT if COUNTS.search(key) else MAX_SIZE
        if abs(data) > limit:
            size = f"{data:,}" if abs(data) < 10**20 else "a number of more than 20 digits"
            raise ConvertError(
                f"{where}: {key} = {size} is beyond the limit of {limit:,}; no model is of "
                "that size, so the file is damaged or made to do harm."
            )


def read_config(path: Path) -> HfConfig:
    """Read a config file.

    Raises:
        ConvertError: it is absent or isn't JSON.
    """
    try:
        data = read_json(path)
    except OSError as error:
        raise ConvertError(f"{path} can't be read: {error.strerror}.") from error
    except FormatError as error:
        raise ConvertError(str(error)) from None
    if not isinstance(data, dict):
        raise ConvertError(f"{path} holds no table of options.")
    return HfConfig(data, str(path))


def _equal(value: object, default: object) -> bool:
    return value is None or bool(_number(value) == default)


def _number(value: object) -> Any:
    """Return a value; transformers 5 writes infinity as `{"__float__": "Infinity"}`."""
    if isinstance(value, dict) and set(value) == {"__float__"}:
        return float(value["__float__"])
    return [_number(item) for item in value] if isinstance(value, list) else value
