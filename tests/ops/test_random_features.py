"""Random features of Performer: what they estimate, and their projections."""

import mlx.core as mx
import numpy as np

from mlx_transformers.ops.random_features import (
    generalized_features,
    orthogonal_projection,
    softmax_features,
)


def test_positive_features_estimate_the_softmax_kernel() -> None:
    rng = np.random.default_rng(0)
    q, k = (mx.array(0.5 * rng.standard_normal((5, 8)), mx.float32) for _ in range(2))
    w = mx.array(orthogonal_projection(4096, 8, rng))
    kernel = mx.exp(q @ k.T / 8**0.5)
    features = [softmax_features(x, w, eps=0.0, maximum=None) for x in (q, k)]
    np.testing.assert_allclose(features[0] @ features[1].T, kernel, rtol=0.1)
    # a maximum is a factor of each query, or of all keys, that attention divides by
    for x, maximum in ((q, "features"), (k, "positions")):
        scaled = softmax_features(x, w, eps=0.0, maximum=maximum)
        ratio = np.asarray(scaled / softmax_features(x, w, eps=0.0, maximum=None))
        assert ratio.std(axis=-1 if maximum == "features" else None).max() < 1e-5


def test_generalized_features_are_the_activation_of_projections() -> None:
    x, w = mx.array([[1.0, -2.0]]), mx.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = generalized_features(x, w, lambda y: mx.maximum(y, 0), eps=0.5)
    np.testing.assert_allclose(found, [[2**-0.25 + 0.5, 0.5, 0.5]], rtol=1e-6)
    found = generalized_features(x, None, lambda y: mx.maximum(y, 0), eps=0.5, scaled=False)
    np.testing.assert_allclose(found, [[1.5, 0.5]])


def test_projections_are_orthogonal_in_blocks() -> None:
    w = orthogonal_projection(6, 4, np.random.default_rng(3), regular=True)
    np.testing.assert_allclose(w[:4] @ w[:4].T, 4 * np.eye(4), atol=1e-5)
    np.testing.assert_allclose(w[4:] @ w[4:].T, 4 * np.eye(2), atol=1e-5)
    norms = np.linalg.norm(orthogonal_projection(400, 4, np.random.default_rng(3)), axis=1)
    assert 1.6 < norms.mean() < 2.1
    assert norms.std() > 0.3
