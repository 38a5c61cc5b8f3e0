"""Batch kinds: how rows of a split become the arrays of a step."""
