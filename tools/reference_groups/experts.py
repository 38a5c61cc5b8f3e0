"""Group 5: routers and experts."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
