"""A fast BLAS in front of MLX's on Linux: NumPy's, through an adapter, or a named library."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from mlx_transformers.core import blas
from mlx_transformers.core.jit import real_compiler

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or real_compiler() is None,
    reason="the adapter is for Linux and needs g++",
)
ROWS, NONE, TURNED = 101, 111, 112
"""CBLAS's numbers for row-major order, and for a plain and a transposed matrix."""


@pytest.fixture
def library() -> Path:
    found = blas._of_numpy()
    if not found:
        pytest.skip("NumPy was not installed from a wheel")
    return found[0]


def test_the_adapter_multiplies_as_numpy_does(tmp_path: Path, library: Path) -> None:
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    adapter = ctypes.CDLL(str(blas._adapter(tmp_path)))
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)
    out = np.ones((2, 4), np.float32)
    number, address = ctypes.c_float, [x.ctypes.data_as(ctypes.c_void_p) for x in (a, b, out)]
    sizes = (ROWS, NONE, TURNED, 2, 4, 3)
    adapter.cblas_sgemm(
        *sizes, number(2.0), address[0], 3, address[1], 3, number(1.0), address[2], 4
    )
    np.testing.assert_array_equal(out, 2 * a @ b.T + 1)


def test_a_damaged_adapter_is_compiled_again(tmp_path: Path, library: Path) -> None:
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    path = blas._adapter(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert blas._adapter(tmp_path) == path
    assert len(path.read_bytes()) == len(whole)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_named_library_comes_first_and_a_wrong_name_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(blas.CHOICE, "libnowhere.so")
    name, problems = blas.load(lambda: tmp_path)
    assert problems[0].startswith("libnowhere.so (MLXT_BLAS)")
    assert "libnowhere" not in name


def test_a_library_without_matrix_products_is_not_taken_for_a_blas() -> None:
    with pytest.raises(OSError, match="no cblas_sgemm"):
        blas._globally("libm.so.6")
