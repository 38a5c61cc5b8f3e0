"""For every test: the package first, so that MLX gets its fast BLAS, and no compilation.

On Linux MLX calls g++ for each new group of fused operations, most of a second each time, so tests
run eagerly, and so do the processes that they start. Those marked `compiled` don't.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Where the tree is to stay without compiled modules, the processes that tests start share a folder.
if sys.dont_write_bytecode:
    os.environ["PYTHONPYCACHEPREFIX"] = f"{tempfile.gettempdir()}/mlxt-modules-{os.getuid()}"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Chips with matrix units multiply float32 in fewer bits by default, and tolerances are float32's.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import checked_shapes

from mlx_transformers.core import backend  # before mlx: it chooses the BLAS

checked_shapes.install()

import mlx.core as mx  # noqa: E402

from mlx_transformers.assembly import callbacks  # noqa: E402
from mlx_transformers.core import device  # noqa: E402

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.append(str(TOOLS))

NO_COMPILER = backend.prepare().jit == "none"

mx.disable_compile()
os.environ["MLX_DISABLE_COMPILE"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `soak`, unless `-m` names them."""
    if "soak" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(autouse=True)
def compilation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile in tests marked `compiled`, and in no others."""
    if request.node.get_closest_marker("compiled") is None:
        mx.disable_compile()
        yield
        return
    if NO_COMPILER:
        pytest.skip("there is no compiler for MLX here")
    monkeypatch.delenv("MLX_DISABLE_COMPILE")
    mx.enable_compile()
    yield
    mx.disable_compile()


@pytest.fixture(autouse=True)
def reference_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give runs the speed of products that each would measure at its start, for half a second."""
    for module in (callbacks, device):
        monkeypatch.setattr(module, "matmul_flops", lambda *_, **__: 1e11)


@pytest.fixture
def load_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a script of tools/ as a module, by the name of its file."""
    monkeypatch.syspath_prepend(TOOLS)

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
