"""Contacts of a protein: precision of its likeliest pairs, and mutual information of columns."""

import numpy as np

PSEUDOCOUNT = 1 / 3
"""Share of a uniform distribution in the frequencies of letters and of pairs."""


def precision(scores: np.ndarray, contacts: np.ndarray, counted: np.ndarray) -> float:
    """Return the share of real contacts among the N/5 best pairs, each pair once.

    Args:
        scores: of each pair of N residues `[N, N]`, symmetric.
        contacts: whether it is a contact, `[N, N]`.
        counted: whether it is far enough apart in the chain to count, `[N, N]`.
    """
    once = np.triu(counted, 1)
    n = max(1, len(scores) // 5)
    best = np.argsort(np.where(once, -scores, np.inf), axis=None, kind="stable")
    return float(contacts.ravel()[best[: min(n, int(once.sum()))]].mean())


def corrected_information(letters: np.ndarray, n_letters: int) -> np.ndarray:
    """Return the mutual information of the columns of an alignment `[S, N]` with the average
    product correction (Dunn et al. 2008), `[N, N]`."""
    return product_corrected(mutual_information(letters, n_letters))


def mutual_information(letters: np.ndarray, n_letters: int) -> np.ndarray:
    """Return the mutual information of all columns of an alignment `[S, N]`, `[N, N]` in nats."""
    n, length = letters.shape
    one_hots = np.eye(n_letters)[letters].reshape(n, -1)
    joint = (1 - PSEUDOCOUNT) * (one_hots.T @ one_hots) / n + PSEUDOCOUNT / n_letters**2
    joint = joint.reshape(length, n_letters, length, n_letters).transpose(0, 2, 1, 3)
    marginal = (1 - PSEUDOCOUNT) * one_hots.mean(axis=0) + PSEUDOCOUNT / n_letters
    single = marginal.reshape(length, n_letters)
    product = single[:, None, :, None] * single[None, :, None, :]
    return np.asarray((joint * np.log(joint / product)).sum(axis=(2, 3)))


def product_corrected(scores: np.ndarray) -> np.ndarray:
    """Return scores of pairs `[N, N]` less the product of both columns' means over that of all."""
    off = ~np.eye(len(scores), dtype=bool)
    column = (scores * off).sum(axis=0) / (len(scores) - 1)
    return np.asarray(scores - np.outer(column, column) / scores[off].mean())
