"""Group 3: state spaces: HiPPO, S4, S4D, S5."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
