"""The names that scripts import from the package itself."""

import subprocess
import sys

FACE = ("load_recipe", "build", "train", "finetune", "load", "generate")


def test_the_face_is_functions_whatever_was_imported_before() -> None:
    code = (
        "import mlx_transformers.verbs.train, mlx_transformers.decode.generate\n"
        f"from mlx_transformers import {', '.join(FACE)}\n"
        f"assert all(callable(f) for f in ({', '.join(FACE)}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_no_mlx() -> None:
    code = "import mlx_transformers, sys; assert 'mlx.core' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
