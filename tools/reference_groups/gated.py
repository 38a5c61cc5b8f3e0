"""Group 4: gated linear attention and delta rules."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
