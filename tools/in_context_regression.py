"""How the error of in-context regression falls with the examples: a run beside least squares.

    python tools/in_context_regression.py RUN [--sequences N] [--json FILE] [--plot FILE.svg]

Draws sequences with another seed than that of the run's data, and prints the squared error divided
by the dimension after k examples, 0 to all but one: of the run, of least squares (of the smallest
norm while there are fewer examples than dimensions, which is the ideal without noise), and of the
prediction 0. Garg et al. 2022, figure 2.
"""

import argparse
import json
from pathlib import Path

from mlx_transformers.assembly.run_data import run_recipe  # before mlx: it chooses the BLAS
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.context import Context
from mlx_transformers.data.corpora.linear_regression import LinearRegression
from mlx_transformers.objectives.regression import predictions
from mlx_transformers.report.plot import measure_curves
from mlx_transformers.runs.folder import find_checkpoint

import mlx.core as mx  # isort: skip
import numpy as np  # isort: skip

SEED = 987_654_321
Curves = dict[str, dict[int, float]]


def curves(run: str, sequences: int) -> Curves:
    """Return the error after each number of examples, by predictor."""
    folder, checkpoint = find_checkpoint(run)
    settings = run_recipe(folder).data.settings
    corpus = LinearRegression({**settings, "n_examples": sequences, "seed": SEED})
    vectors = np.array([row["vectors"] for row in corpus.rows()], np.float32)
    model, _ = load(checkpoint)
    found = np.array(predictions(model, mx.array(vectors), Context()))[:, ::2]
    x, y = vectors[:, ::2, :-1], vectors[:, 1::2, -1]
    squares = np.stack([_least_squares(a, b) for a, b in zip(x, y, strict=True)])
    errors = {"the run": found - y, "least squares": squares - y, "zero": -y}
    n_dims = x.shape[2]
    return {
        name: {k: float(np.mean(e[:, k] ** 2)) / n_dims for k in range(e.shape[1])}
        for name, e in errors.items()
    }


def _least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The prediction at each of `x [n, d]` from the pairs before it, `[n]`."""
    found = np.zeros(len(y))
    for k in range(1, len(y)):
        found[k] = x[k] @ np.linalg.lstsq(x[:k].astype(float), y[:k].astype(float))[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of recipes/tasks/linear_regression_tiny.toml")
    parser.add_argument("--sequences", type=int, default=2000, help="sequences to draw")
    parser.add_argument("--json", type=Path, help="write the curves to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves into this .svg or .png file")
    given = parser.parse_args()
    found = curves(given.run, given.sequences)
    print("examples  " + "  ".join(f"{name:>14}" for name in found))
    for k in next(iter(found.values())):
        print(f"{k:>8}  " + "  ".join(f"{curve[k]:>14.4f}" for curve in found.values()))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    if given.plot is not None:
        measure_curves(found, given.plot, "examples before", "squared error / d")


if __name__ == "__main__":
    main()
