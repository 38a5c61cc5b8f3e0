"""Metrics of classification, from the confusion matrix `table[label, predicted]`."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from .interval import Measure, Score, scored


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """The confusion matrix `[C, C]` of labels and predictions `[n]`: rows are labels."""
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes)


def accuracy(table: np.ndarray) -> float:
    """The share of correct predictions."""
    return float(np.trace(table) / table.sum())


def macro_f1(table: np.ndarray) -> float:
    """The mean over classes of `2 tp / (2 tp + fp + fn)`.

    Classes that occur neither as a label nor as a prediction are left out.
    """
    right, all_of = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * right[all_of > 0] / all_of[all_of > 0]))


Average = Literal["binary", "macro", "micro", "weighted"]


def f1(table: np.ndarray, average: Average = "binary") -> float:
    """`2 tp / (2 tp + fp + fn)` of class 1 (binary), of the sums over classes (micro), or its mean
    over classes, unweighted (macro) or by their frequency (weighted). An absent class has 0."""
    right, predicted, labels = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    if average == "micro":
        return accuracy(table)
    per_class = 2 * right / np.maximum(predicted + labels, 1)
    if average == "binary":
        return float(per_class[1])
    if average == "macro":
        return macro_f1(table)
    return float((per_class * labels).sum() / labels.sum())


def matthews(table: np.ndarray) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004, "Comparing two K-category
    assignments by a K-category correlation coefficient"): 0 where all labels or all predictions are
    one class."""
    table = table.astype(np.float64)
    n, labels, predicted = table.sum(), table.sum(axis=1), table.sum(axis=0)
    variances = (n * n - labels @ labels) * (n * n - predicted @ predicted)
    if variances <= 0:
        return 0.0
    return float((np.trace(table) * n - labels @ predicted) / np.sqrt(variances))


METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}


def classification(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> list[Score]:
    """Every metric of `METRICS`, of labels and predictions `[n]`."""

    def of(metric: Callable[[np.ndarray], float]) -> Measure:
        return lambda i: metric(confusion(labels[i], predicted[i], n_classes))

    return [scored(name, len(labels), of(metric)) for name, metric in METRICS.items()]


def shares(name: str, right: np.ndarray, total: np.ndarray) -> Score:
    """`sum(right) / sum(total)` over examples, with an interval from drawing whole examples."""
    return scored(name, len(total), lambda i: float(right[i].sum() / max(total[i].sum(), 1)))
