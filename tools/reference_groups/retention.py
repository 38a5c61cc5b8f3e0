"""Group 1: retention and xPos."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
