"""Group 2: hashing, low rank and kernels in the place of softmax attention."""

from reference_groups.case import Rule

RULES: tuple[Rule, ...] = ()
