"""Metrics of classification, from the table of what was said for what is: `table[is, said]`."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from .interval import Measure, Score, scored


def confusion(labels: np.ndarray, said: np.ndarray, n_classes: int) -> np.ndarray:
    """How often each class was taken for each, `[C, C]`, of labels and answers `[n]`."""
    flat = np.bincount(labels * n_classes + said, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def accuracy(table: np.ndarray) -> float:
    """The share of right answers."""
    return float(np.trace(table) / table.sum())


def macro_f1(table: np.ndarray) -> float:
    """The mean over classes of `2 tp / (2 tp + fp + fn)`.

    Classes that neither are nor are said take no part; one that only is or only is said has 0.
    """
    right, all_of = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * right[all_of > 0] / all_of[all_of > 0]))


Average = Literal["binary", "macro", "micro", "weighted"]


def f1(table: np.ndarray, average: Average = "binary") -> float:
    """`2 tp / (2 tp + fp + fn)`: of class 1, of the sums over classes, or its mean over classes,
    each alike or weighted by how often it occurs. A class with nothing to count has 0."""
    right, said, are = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    if average == "micro":
        return accuracy(table)
    each = 2 * right / np.maximum(said + are, 1)
    if average == "binary":
        return float(each[1])
    if average == "macro":
        return macro_f1(table)
    return float((each * are).sum() / are.sum())


def matthews(table: np.ndarray) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004, "Comparing two K-category
    assignments by a K-category correlation coefficient"): 0 where all is one class, or said to be.
    """
    table = table.astype(np.float64)
    n, are, said = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread = (n * n - are @ are) * (n * n - said @ said)
    return float((np.trace(table) * n - are @ said) / np.sqrt(spread)) if spread > 0 else 0.0


METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}


def classification(labels: np.ndarray, said: np.ndarray, n_classes: int) -> list[Score]:
    """All of them, of labels and answers `[n]`."""

    def of(metric: Callable[[np.ndarray], float]) -> Measure:
        return lambda i: metric(confusion(labels[i], said[i], n_classes))

    return [scored(name, len(labels), of(metric)) for name, metric in METRICS.items()]


def shares(name: str, right: np.ndarray, asked: np.ndarray) -> Score:
    """The share of what was asked that is right, where example i asked `asked[i]` things; examples
    are drawn, not things."""
    return scored(name, len(asked), lambda i: float(right[i].sum() / max(asked[i].sum(), 1)))
