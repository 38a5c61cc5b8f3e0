"""For every test: the package first, so that MLX gets its fast BLAS and kernels."""

import mlx_transformers  # noqa: F401
