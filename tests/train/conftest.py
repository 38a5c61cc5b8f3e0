"""Runs of a test stay in its folder, and so do their data."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, tmp_path_factory, monkeypatch):
    """An empty cache, and no run outside."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
