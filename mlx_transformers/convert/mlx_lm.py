"""What mlx-lm reads differently from transformers, family by family.

Listed are the families whose exports were compared with mlx-lm's own logits. mlx-lm passes over
some options silently; those are refused here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import ConvertError
from .family import Family, Table

Faults = Callable[[Table, Table], list[str]]


@dataclass(frozen=True)
class Reading:
    """How mlx-lm reads a family.

    Attributes:
        faults: `(config, our model table) -> sentences` on what it would get wrong.
        rename: a prefix that it doesn't expect on names of tensors.
        more: keys of the config that it demands: its name, and the key that holds the value.
    """

    faults: Faults
    rename: str = ""
    more: tuple[tuple[str, str], ...] = ()


def windows(config: Table, table: Table) -> list[str]:
    """mlx-lm has no sliding window in these families: right as long as a window holds all."""
    window = config.get("sliding_window")
    if window is None or window >= table["max_seq_len"]:
        return []
    return [
        f"it has no sliding window for this family, so from token {window + 1} on it would see "
        f"what this model doesn't. With --context {window} the export ends where they differ"
    ]


def gpt2(config: Table, table: Table) -> list[str]:
    """mlx-lm's GPT-2 has one activation, one width, and a tied head."""
    faults = []
    if table["block"]["ffn"]["activation"] != "gelu_tanh":
        faults.append("its GPT-2 has the tanh form of gelu only")
    if table["block"]["ffn"]["hidden_dim"] != 4 * table["dim"]:
        faults.append("its GPT-2 has feed-forward networks of four times the width only")
    if not table["head"]["tied"]:
        faults.append("its GPT-2 ties the head to the embedding")
    return faults


def mixtral(config: Table, table: Table) -> list[str]:
    """mlx-lm's Mixtral derives the width of a head."""
    mixer = table["block"]["mixer"]
    wide = (mixer.get("head_dim") or 0) * mixer["n_heads"] not in (0, table["dim"])
    return [*windows(config, table), *(["its Mixtral has heads of dim / n_heads only"] * wide)]


MLX_LM = {
    "gpt2": Reading(gpt2, rename="transformer.", more=(("n_ctx", "n_positions"),)),
    "llama": Reading(windows),
    "mistral": Reading(windows),
    "mixtral": Reading(mixtral),
}
"""By the family's name."""


def reading(family: Family, config: Table, table: Table) -> Reading:
    """How mlx-lm reads this model.

    Raises:
        ConvertError: it would give other outputs, or nobody has compared them.
    """
    if family.name not in MLX_LM:
        raise ConvertError(
            f"No export of {family.architecture} has been compared with mlx-lm. Compared are: "
            f"{', '.join(MLX_LM)}. An export --to hf opens there too if mlx-lm knows the family."
        )
    found = MLX_LM[family.name]
    if faults := found.faults(config, table):
        raise ConvertError(f"mlx-lm would give other outputs than this model: {'; '.join(faults)}.")
    return found
