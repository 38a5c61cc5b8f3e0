"""Group 4: RWKV, gated linear recurrences, xLSTM."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
