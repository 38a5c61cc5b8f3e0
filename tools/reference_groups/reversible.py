"""Group 7: reversible residuals."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
