"""Differences of mlx-lm from transformers, family by family.

Lists the families whose exports were compared with mlx-lm's own logits. mlx-lm ignores some options
silently; those are refused here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.errors import ConvertError
from .family import Family, Table
from .flat_model import MISSING, FlatModel
from .layer_types import FULL, layer_types_of

Only = tuple[str, tuple[Any, ...], str]
"""A path in our table, what mlx-lm has there, and how to say so."""


@dataclass(frozen=True)
class Reading:
    """How mlx-lm reads a family.

    Attributes:
        only: what it has in one form alone, beside `EVERYWHERE`.
        scalings: the scalings of rotary positions that it has.
        windows: whether it has sliding windows.
        rename: a prefix that it doesn't expect on names of tensors.
        modules: prefixes of the published names of modules, and what its own modules have instead.
        split: ends of published names of modules that it takes apart when it loads a model.
        more: what says further keys of the config, which it demands.
    """

    only: tuple[Only, ...] = ()
    scalings: tuple[str, ...] = ()
    windows: bool = False
    rename: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    split: tuple[str, ...] = ()
    more: Callable[[FlatModel], Table] = lambda view: {}

    def faults(self, view: FlatModel) -> list[str]:
        """Return sentences on what mlx-lm would compute differently."""
        wrong = [
            sentence
            for path, values, sentence in (*EVERYWHERE, *self.only)
            if view.get(path) not in (MISSING, *values)
        ]
        scaling = view.get("block.position.scaling.kind")
        if scaling not in (None, MISSING, *self.scalings):
            wrong.append(f"it has no scaling '{scaling}' of rotary positions for this family")
        window, longest = view.get("block.mixer.window"), view.get("max_seq_len")
        if not self.windows and isinstance(window, int) and window < longest:
            wrong.append(
                f"it has no sliding window for this family, so from token {window + 1} on it would "
                f"see what this model doesn't. With --context {window} the export ends where they "
                "differ"
            )
        return wrong

    def module(self, published: str) -> str:
        """Return its name of a published module, to which its adapters refer.

        Raises:
            ConvertError: it has several modules instead.
        """
        if any(published.endswith(end) for end in self.split):
            raise ConvertError(
                f"mlx-lm takes {published} apart when it loads a model, so an update of it has no "
                "place there. Merge it into its base with mlxt fuse, or write it with --to peft."
            )
        for theirs, own in self.modules:
            if published.startswith(theirs):
                return own + published.removeprefix(theirs)
        return published

    def published(self, module: str) -> str:
        """Return the published name of one of its modules."""
        for theirs, own in self.modules:
            if module.startswith(own):
                return theirs + module.removeprefix(own)
        return module

    def keys(self, view: FlatModel, config: Table) -> Table:
        """Return the further keys that mlx-lm needs; it has a table of its own for rope scaling."""
        rope = dict(config.get("rope_parameters") or {})
        kind = rope.get("rope_type", "default")
        scaling = {} if kind == "default" else {"rope_scaling": rope | {"type": kind}}
        return scaling | self.more(view)


EVERYWHERE: tuple[Only, ...] = (
    ("block.mixer.clip", (None,), "it bounds no queries, keys and values"),
    ("block.ffn.router.kind", ("top_k", "sigmoid"), "it has no such router"),
)
GATED: tuple[Only, ...] = (
    ("block.ffn.activation", ("silu",), "its gated networks have silu only"),
    ("block.ffn.expert.activation", ("silu",), "its experts have silu only"),
)
TIED: tuple[Only, ...] = (("head.tied", (True,), "it ties the head to the embedding"),)
UNTIED: tuple[Only, ...] = (("head.tied", (False,), "its head is not the embedding"),)
TANH: tuple[Only, ...] = (
    ("block.ffn.activation", ("gelu_tanh",), "it has the tanh form of gelu only"),
)
UNDER_MODEL = (("transformer.", "model."),)
NEOX = (
    ("embed_out", "model.embed_out"),
    ("gpt_neox.layers.", "model.h."),
    ("gpt_neox.", "model."),
)
LLAMA_SCALINGS = ("linear", "llama3", "dynamic")


def four_times(view: FlatModel) -> Table:
    """Check that networks are four times as wide as the model, which mlx-lm assumes.

    Raises:
        ConvertError: it is another than four times the model's.
    """
    if view.get("block.ffn.hidden_dim") != 4 * view.get("dim"):
        raise ConvertError("mlx-lm has feed-forward networks of four times the width only here.")
    return {}


def divided(view: FlatModel) -> Table:
    """Check that heads are D / H wide, which mlx-lm assumes.

    Raises:
        ConvertError: it is another than D / H.
    """
    if view.get("block.mixer.head_dim") * view.get("block.mixer.n_heads") != view.get("dim"):
        raise ConvertError("mlx-lm has heads of dim / n_heads only in this family.")
    return {}


def gpt2(view: FlatModel) -> Table:
    """Return the context under its other name."""
    return {**four_times(view), "n_ctx": view.get("max_seq_len")}


def qwen2_moe(view: FlatModel) -> Table:
    """Return the width of dense networks, which no layer has."""
    return {**divided(view), "intermediate_size": view.get("block.ffn.expert.hidden_dim")}


def gemma3(view: FlatModel) -> Table:
    """Return the period of layers without a window.

    Raises:
        ConvertError: after now more, now fewer; or √D has more digits than mlx-lm gives it.
    """
    scale = math.sqrt(view.get("dim"))
    if not (math.frexp(scale)[0] * 256).is_integer():
        raise ConvertError(
            f"mlx-lm multiplies the embedding by √{view.get('dim')} in bfloat16, so its logits "
            "differ in the fourth digit. An export --to hf opens there all the same."
        )
    types = layer_types_of(view)
    period = types.index(FULL) + 1 if FULL in types else len(types) + 1
    if any((kind == FULL) != (i % period == period - 1) for i, kind in enumerate(types)):
        raise ConvertError("mlx-lm has layers without a window at even distances only.")
    return {"sliding_window_pattern": period}


MLX_LM = {
    "cohere": Reading((*GATED, *TIED), more=divided),
    "deepseek_v3": Reading(
        (
            *GATED,
            *UNTIED,
            ("block.position.traditional", (True,), "it turns neighbours together only"),
        ),
        split=("kv_b_proj",),
    ),
    "gemma2": Reading(
        (
            *TANH,
            *TIED,
            ("block.mixer.softcap", (50.0,), "it has scores bounded by 50"),
            ("head.softcap", (30.0,), "it has logits bounded by 30"),
        )
    ),
    "gemma3_text": Reading(
        (*TANH, ("head.softcap", (None,), "it doesn't bound logits")), windows=True, more=gemma3
    ),
    "gpt2": Reading((*TANH, *TIED), rename="transformer.", modules=UNDER_MODEL, more=gpt2),
    "gpt_neox": Reading((*TANH, *UNTIED), modules=NEOX, more=four_times),
    "gptj": Reading((*TANH, *UNTIED), modules=UNDER_MODEL, more=four_times),
    "granite": Reading(GATED, LLAMA_SCALINGS, more=divided),
    "internlm2": Reading(GATED, ("linear", "dynamic"), more=divided),
    "internlm3": Reading(GATED, ("linear", "dynamic"), more=divided),
    "llama": Reading(GATED, LLAMA_SCALINGS),
    "mistral": Reading(GATED, LLAMA_SCALINGS),
    "mixtral": Reading(GATED, more=divided),
    "olmo2": Reading(GATED, LLAMA_SCALINGS),
    "phi": Reading(
        (*TANH, *UNTIED, ("block.mixer.qk_norm", (None,), "it norms no queries and keys")),
        more=divided,
    ),
    "phi3": Reading(GATED, more=divided),
    "qwen2": Reading(GATED, LLAMA_SCALINGS, more=divided),
    "qwen2_moe": Reading(
        (*GATED, *UNTIED, ("block.ffn.router.normalize", (False,), "its gates are as they come")),
        more=qwen2_moe,
    ),
    "qwen3": Reading(GATED, LLAMA_SCALINGS),
    "qwen3_moe": Reading(GATED, LLAMA_SCALINGS),
    "smollm3": Reading(GATED, LLAMA_SCALINGS),
    "stablelm": Reading((*GATED, *UNTIED), more=divided),
    "starcoder2": Reading(
        (("block.ffn.activation", ("gelu",), "it has the exact form of gelu only"),), more=divided
    ),
}
"""By the family's name."""


def reading(family: Family, view: FlatModel) -> Reading:
    """Return how mlx-lm reads this model.

    Raises:
        ConvertError: it would give other outputs, or nobody has compared them.
    """
    if family.name not in MLX_LM:
        raise ConvertError(
            f"No export of {family.architecture} has been compared with mlx-lm. Compared are: "
            f"{', '.join(MLX_LM)}. An export --to hf opens there too if mlx-lm knows the family."
        )
    reading_of = MLX_LM[family.name]
    if faults := reading_of.faults(view):
        raise ConvertError(f"mlx-lm would give other outputs than this model: {'; '.join(faults)}.")
    return reading_of
