"""For every test: the package first, so that MLX gets its fast BLAS and kernels."""

import os

# Chips with matrix units multiply float32 in fewer bits by default, and tolerances are float32's.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import mlx_transformers  # noqa: F401
