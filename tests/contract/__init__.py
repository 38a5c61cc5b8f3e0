"""The contract suite: one row per kind, and everything that a row buys."""
