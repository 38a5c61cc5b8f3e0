"""Reading a `config.json` of Hugging Face so that no option is passed over.

A family asks for the keys it builds. What it never asked for, and is not known to be without
effect on the outputs, is an error: a model that ignores an option gives wrong answers silently.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConvertError, FormatError, unknown
from ..core.parse import read_json

REQUIRED: Any = object()
"""The default of a key that has none."""

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "linear": "identity",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "relu2": "relu2",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Their name of an activation, and ours. `gelu_fast` rounds one constant of the tanh form."""

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
        *("chunk_size_feed_forward", "is_encoder_decoder", "use_return_dict", "pruned_heads"),
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

NEUTRAL = {
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_decoder": False,
    "tie_encoder_decoder": False,
}
"""Keys that every config may carry, and the only value that is the model as it is built here."""


def their_activation(ours: str) -> str:
    """Their name of an activation: the first that means it, in the order of `ACTIVATIONS`."""
    return {"gelu_tanh": "gelu_new", "gelu_quick": "quick_gelu", "identity": "linear"}.get(
        ours, ours
    )


class HfConfig:
    """A config read key by key, which remembers what was asked for.

    Attributes:
        where: how to call it in a sentence.
        data: the tables as they stand in the file.
        tensors: names of the file's tensors as transformers saves them today; empty where there
            is no file. Some options are told by what is there.
    """

    def __init__(self, data: Mapping[str, Any], where: str = "config.json") -> None:
        self.data = dict(data)
        self.where = where
        self.tensors: frozenset[str] = frozenset()
        self._read: set[str] = set()
        self._defaults: dict[str, Any] = {}
        self._sections: list[HfConfig] = []

    @property
    def model_type(self) -> str:
        """Which family it belongs to."""
        return str(self.data.get("model_type", ""))

    @property
    def architecture(self) -> str:
        """The class that was saved, as in "LlamaForCausalLM"; empty where it isn't said."""
        return str((self.data.get("architectures") or [""])[0])

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def assume(self, **defaults: Any) -> None:
        """Take these as the defaults of the family's config class."""
        self._defaults.update(defaults)

    def get(self, key: str, default: Any = REQUIRED) -> Any:
        """The value of `key`; where it is left out the default that is assumed, or the one given.

        Raises:
            ConvertError: it is left out and has no default.
        """
        self._read.add(key)
        if key in self.data:
            return _number(self.data[key])
        if key in self._defaults:
            return self._defaults[key]
        if default is REQUIRED:
            raise ConvertError(f"{self.where} lacks '{key}', which has no default.")
        return default

    def also(self, key: str, other: str) -> None:
        """Let `other` be a second name of `key`, as an `attribute_map` of a config class does."""
        self.ignore(other)
        if key not in self.data and other in self.data:
            self.data[key] = self.data[other]

    def expect(self, key: str, value: Any, default: Any = REQUIRED) -> None:
        """Accept only one `value` of an option, whose other values are not built.

        Raises:
            ConvertError: it has another.
        """
        given = self.get(key, value if default is REQUIRED else default)
        if given != value:
            raise self.refuse(key, given, f"only {value!r} is")

    def refuse(self, key: str, given: Any, instead: str = "") -> ConvertError:
        """The error that says that an option has a value which is not built."""
        return ConvertError(
            f"{self.where}: {key} = {given!r} is not built{'; ' if instead else ''}{instead}. The "
            "model can't be imported without giving other outputs than its own."
        )

    def activation(self, key: str, default: Any = REQUIRED) -> str:
        """Our name of the activation that `key` names.

        Raises:
            ConvertError: it is none of ours.
        """
        name = self.get(key, default)
        if name not in ACTIVATIONS:
            sentence = unknown("activation", str(name), ACTIVATIONS)
            raise ConvertError(f"{self.where}: {key}: {sentence}")
        return ACTIVATIONS[name]

    def ignore(self, *keys: str) -> None:
        """Take keys as read that have no effect in this family."""
        self._read.update(keys)

    def section(self, key: str) -> "HfConfig":
        """The table under `key` (empty if there is none), whose keys are watched too."""
        return self.watched(key, self.get(key, None) or {})

    def watched(self, name: str, data: Mapping[str, Any]) -> "HfConfig":
        """A table made from this config, whose keys are watched too."""
        inner = HfConfig(data, f"{self.where}, {name}")
        self._sections.append(inner)
        return inner

    def finish(self) -> None:
        """Refuse what nobody asked for.

        Raises:
            ConvertError: an option with a value of its own is not built.
        """
        left = {
            key: value
            for key, value in self.data.items()
            if key not in self._read and key not in NO_EFFECT and not _says_nothing(key, value)
        }
        if left:
            listed = ", ".join(f"{key} = {json.dumps(value)[:60]}" for key, value in left.items())
            raise ConvertError(
                f"{self.where} sets what is not built for {self.model_type or 'this model'}: "
                f"{listed}. Importing it would give other outputs than the model's own."
            )
        for inner in self._sections:
            inner.finish()


def read_config(path: Path) -> HfConfig:
    """The config of a file.

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


def _says_nothing(key: str, value: Any) -> bool:
    return value is None or (key in NEUTRAL and value == NEUTRAL[key])


def _number(value: Any) -> Any:
    """A value, with infinities as transformers 5 spells them: `{"__float__": "Infinity"}`."""
    if isinstance(value, dict) and set(value) == {"__float__"}:
        return float(value["__float__"])
    return [_number(item) for item in value] if isinstance(value, list) else value
