"""Group 6: adaptive and conditional depth."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
