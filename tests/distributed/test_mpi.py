"""A job of mpirun does what a job of the ring does; skipped where there is no MPI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from train import tiny

from mlx_transformers.runs import checkpoint

from . import group
from .test_equal import OFTEN, STILL, assert_equal

ROOT_TOO = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
"""Open MPI refuses to run as root, which is what containers are, without both."""


def mpirun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Two ranks of `mlxt WORDS`."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", **dict.fromkeys(ROOT_TOO, "1")}
    env["PYTHONPATH"] = os.pathsep.join([str(tiny.ROOT), env.get("PYTHONPATH", "")])
    return subprocess.run(
        ["mpirun", "-n", "2", "--oversubscribe", sys.executable, *group.mlxt(*words)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=group.DEADLINE,
    )


@pytest.fixture(autouse=True)
def there() -> None:
    """Skips without mpirun, or where MLX finds no libmpi (MLX_MPI_LIBNAME names another)."""
    if shutil.which("mpirun") is None or not mx.distributed.is_available("mpi"):
        pytest.skip("no MPI")


def test_mpi_equals_the_ring_and_a_shared_optimizer_too(tmp_path: Path) -> None:
    sets = (*STILL, *OFTEN, "train.accumulate=2", "train.shard_optimizer=true")
    done = mpirun(tmp_path, *tiny.words(tmp_path, *sets, name="mpi"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished at step 6") == 1
    ranks = group.train(tmp_path, *sets, name="ring")
    assert [rank.code for rank in ranks] == [0, 0], ranks
    mpi, ring = tmp_path / "runs/mpi", group.run(tmp_path, "ring")
    assert_equal(mpi, ring)
    trees = [checkpoint.load(path / "checkpoints/last", ["optimizer"])[0] for path in (mpi, ring)]
    assert tiny.leaves(trees[0]).keys() == tiny.leaves(trees[1]).keys()
