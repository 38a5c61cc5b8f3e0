"""A BLAS that this CPU can't run is left alone: its first matrix product would kill the process."""

import pytest

from mlx_transformers.core.blas import refuse_foreign

AVX2, AVX512 = "flags : fma avx avx2", "flags : fma avx avx2 avx512f avx512bw"
FIXED = "OpenBLAS 0.3.31 NO_AFFINITY SKYLAKEX MAX_THREADS=4"
CHOOSING = "OpenBLAS 0.3.21 DYNAMIC_ARCH NO_AFFINITY SkylakeX MAX_THREADS=64"


def test_a_build_for_another_cpu_is_refused() -> None:
    with pytest.raises(OSError, match="built for SKYLAKEX, and this CPU has no avx512f"):
        refuse_foreign(FIXED, AVX2)


@pytest.mark.parametrize(
    ("configuration", "cpu"),
    [
        (FIXED, AVX512),
        (CHOOSING, AVX2),
        (CHOOSING.upper(), AVX2),
        ("OpenBLAS 0.3.31 HASWELL", AVX2),
        ("", AVX2),
    ],
)
def test_what_may_run_here_is_not(configuration: str, cpu: str) -> None:
    refuse_foreign(configuration, cpu)
