"""Runs of a test stay in its folder, and so do their data; skipped where MLX has no ring."""

import mlx.core as mx
import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache, and no run outside."""
    if not mx.distributed.is_available("ring"):
        pytest.skip("this MLX has no ring")
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
