"""The name that a user meant: typing errors, abbreviations, words of other libraries."""

import pytest

from mlx_transformers.core import names
from mlx_transformers.core.names import nearest

TRAIN = ("steps", "batch_size", "accumulate", "microbatch", "batch_schedule", "seq_len", "clip")
OPTIM = ("kind", "learning_rate", "weight_decay", "schedule", "betas", "eps")


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("lr", OPTIM, "learning_rate"),
        ("LR", OPTIM, "learning_rate"),
        ("wd", OPTIM, "weight_decay"),
        ("bs", TRAIN, "batch_size"),  # though batch_schedule has these initials too
        ("seqlen", TRAIN, "seq_len"),
        ("seq-len", TRAIN, "seq_len"),
        ("lrate", OPTIM, "learning_rate"),
        ("sched", OPTIM, "schedule"),
        ("lerning_rate", OPTIM, "learning_rate"),
        ("max_steps", TRAIN, "steps"),
        ("gradient_accumulation_steps", TRAIN, "accumulate"),
        ("grad_clip", TRAIN, "clip"),
        ("rmsnorm", ("layer_norm", "rms_norm"), "rms_norm"),
        ("mt", ("mistral_tiny", "llama_tiny"), "mistral_tiny"),
        ("xyz", OPTIM, None),
        ("l", OPTIM, None),
        ("--", OPTIM, None),
        ("ab", ("a_b", "alpha_beta", "all_but"), "a_b"),
        ("ag", ("alpha_gate", "all_gates"), None),  # two have these initials: neither is meant
    ],
)
def test_a_name_is_found_by_what_users_type(
    typed: str, known: tuple[str, ...], meant: str | None
) -> None:
    assert nearest(typed, known) == meant


def test_other_words_are_looked_up_as_they_are_written_down() -> None:
    assert [word for word in names.SYNONYMS if names.squashed(word) != word] == []
