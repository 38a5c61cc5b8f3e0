"""Fixtures that the contract suite has too."""

from contract.conftest import compilation

__all__ = ["compilation"]
