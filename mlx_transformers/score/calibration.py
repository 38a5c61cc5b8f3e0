"""Calibration: how far the confidence of a classifier is from its accuracy.

    gap_b = |mean confidence - accuracy| of bin b        ECE = Σ share_b · gap_b

Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al.
2017, "On Calibration of Modern Neural Networks"; Brier 1950.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Calibration errors, from 0 to 1.

    Attributes:
        ece: expected calibration error, the mean gap weighted by the share of each bin.
        mce: the largest gap of a bin.
        rms: the root of the weighted mean of squared gaps.
    """

    ece: float
    mce: float
    rms: float


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> Calibration:
    """Measure confidences `[n]` against whether each answer was right `[n]`, in bins of equal
    width that include their lower edge."""
    # float32, as torchmetrics computes edges and confidences: a value on an edge stays in its bin.
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    at = np.searchsorted(edges, confidence.astype(np.float32), side="right") - 1
    counts = np.bincount(at, minlength=bins + 1)
    filled = counts > 0
    confident = np.bincount(at, weights=confidence, minlength=bins + 1)[filled] / counts[filled]
    accurate = np.bincount(at, weights=right, minlength=bins + 1)[filled] / counts[filled]
    gaps, shares = np.abs(confident - accurate), counts[filled] / counts.sum()
    return Calibration(
        float((shares * gaps).sum()),
        float(gaps.max()),
        float(np.sqrt((shares * gaps**2).sum())),
    )


def brier(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance of each row of `probs [n, C]` to its one-hot label, `[n]`."""
    onehot = np.eye(probs.shape[1])[labels]
    return np.asarray(((probs - onehot) ** 2).sum(axis=1))


def nll(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The negative log-likelihood of each label, `[n]`, of `log_probs [n, C]` in nats."""
    return np.asarray(-log_probs[np.arange(len(labels)), labels])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The log-probabilities of rows of logits `[n, C]`, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
