"""Runs of a test stay in its folder, and so do their data."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache, and no run outside."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
