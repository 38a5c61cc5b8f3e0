"""Real text for the tests, and a cache of their own."""

import sysconfig
from pathlib import Path

import pytest

from mlx_transformers.assembly import registry as _registry  # noqa: F401 - fills the slots
from mlx_transformers.data.config import Data

STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("MLXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def library(tmp_path):
    """A folder of thirty files of the standard library: real text of many documents."""
    folder = tmp_path / "library"
    folder.mkdir()
    for path in sorted(STDLIB.glob("[a-d]*.py"))[:30]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def data(library):
    """Makes a `[data]` table over `library`, bytes as tokens unless told otherwise."""

    def make(**keys):
        keys = {"path": str(library), "tokenizer": {"kind": "byte"}, "valid_fraction": 0.3} | keys
        return Data.model_validate(keys)

    return make
