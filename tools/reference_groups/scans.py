"""Group 4: selective scans: Mamba and Mamba-2."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
