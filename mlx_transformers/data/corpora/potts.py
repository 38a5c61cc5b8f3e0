"""Alignments of made-up protein families, sampled from Potts models whose contacts are known."""

from collections.abc import Iterator
from itertools import product
from typing import ClassVar

import numpy as np
from pydantic import Field

from .generated import GeneratedCorpus, Settings
from .records import Row

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
STEPS = np.array([step for step in product((-1, 0, 1), repeat=3) if np.abs(step).sum() == 1])
"""The six neighbours of a place in the lattice."""
COMPACTNESS = 0.7
"""Preference of a growing chain for places beside itself, in units of energy."""


class PottsSettings(Settings):
    """Settings of `potts`."""

    n_examples: int = Field(2000, ge=20)
    """Families, those held out included."""
    length: int = Field(24, ge=8, le=400)
    """Residues N of a sequence."""
    n_sequences: int = Field(16, ge=1)
    """Sequences S of an alignment."""
    n_letters: int = Field(8, ge=2, le=len(LETTERS))
    """Kinds of residues q."""
    coupling: float = Field(1.0, ge=0)
    """Standard deviation of the couplings of a contact, in units of temperature."""
    field: float = Field(0.5, ge=0)
    """Standard deviation of the preferences of a residue."""
    shared: float = Field(0.3, ge=0, le=1)
    """Share of the couplings' variance that is the same for every contact of every family, as
    chemistry would be."""
    sweeps: int = Field(20, ge=1)
    """Updates of every residue, from a random start to the sequence that is kept."""


class Potts(GeneratedCorpus):
    """Alignments sampled from Potts models of folded chains, and distances of their residues.

    A family is a self-avoiding walk in a cubic lattice. Residues beside each other in space and at
    least three apart in the chain are in contact, and their letters are coupled:

        p(a) ~ exp(sum_i h_i(a_i) + sum_contacts J_ij(a_i, a_j))

    Weigt et al. 2009 (direct coupling analysis). A record has `text`, one sequence of letters a
    line, and `distances`, the rows of the matrix of distances in steps of the lattice.
    """

    name = "potts"
    config: ClassVar[type[Settings]] = PottsSettings
    settings: PottsSettings

    def rows(self) -> Iterator[Row]:
        q = self.settings.n_letters
        drawn = np.random.default_rng([self.settings.seed, q]).standard_normal((q, q))
        self._potential = (drawn + drawn.T) / np.sqrt(2)
        return super().rows()

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        places = walk(s.length, rng)
        away = places[:, None] - places[None]
        distances = np.sqrt((away**2).sum(axis=-1))
        order = np.abs(np.subtract.outer(np.arange(s.length), np.arange(s.length)))
        contacts = np.argwhere(np.triu((distances == 1) & (order >= 3)))
        family = rng.standard_normal((len(contacts), s.n_letters, s.n_letters))
        couplings = np.sqrt(s.shared) * self._potential + np.sqrt(1 - s.shared) * family
        fields = s.field * rng.standard_normal((s.length, s.n_letters))
        letters = gibbs(fields, contacts, s.coupling * couplings, s.n_sequences, s.sweeps, rng)
        lines = ["".join(LETTERS[letter] for letter in row) for row in letters]
        return {"text": "\n".join(lines), "distances": distances.round(3).tolist()}


def walk(length: int, rng: np.random.Generator) -> np.ndarray:
    """Grow a compact self-avoiding walk in the cubic lattice: places `[length, 3]`."""
    while True:
        chain = [(0, 0, 0)]
        occupied = set(chain)
        while len(chain) < length:
            free = [place for place in _beside(chain[-1]) if place not in occupied]
            if not free:
                break
            near = [sum(neighbour in occupied for neighbour in _beside(place)) for place in free]
            odds = np.exp(COMPACTNESS * np.array(near))
            chain.append(free[rng.choice(len(free), p=odds / odds.sum())])
            occupied.add(chain[-1])
        if len(chain) == length:
            return np.array(chain)


def _beside(place: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    x, y, z = place
    return [(x + dx, y + dy, z + dz) for dx, dy, dz in STEPS.tolist()]


def gibbs(
    fields: np.ndarray,
    edges: np.ndarray,
    couplings: np.ndarray,
    n: int,
    sweeps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sample n sequences of a Potts model by Gibbs sampling: letters `[n, N]`.

    Residues in contact are an odd number of steps apart in a lattice, so that all even ones can be
    drawn at once, and then all odd ones.

    Args:
        fields: preferences h `[N, q]`.
        edges: residues in contact `[M, 2]`, one of them even and the other odd.
        couplings: J of each contact `[M, q, q]`.
        n: number of sequences.
        sweeps: updates of every residue.
        rng: the source of randomness.
    """
    length, q = fields.shape
    full = np.zeros((length, q, length, q))
    for (i, j), coupling in zip(edges, couplings, strict=True):
        full[i, :, j], full[j, :, i] = coupling, coupling.T
    letters = rng.integers(0, q, (n, length))
    one_hot = np.eye(q)
    halves = [np.arange(start, length, 2) for start in (0, 1)]
    # [other residues and letters, own residues and letters]
    weights = [
        full[halves[1 - k]][:, :, halves[k]].reshape(halves[1 - k].size * q, -1) for k in (0, 1)
    ]
    for _ in range(sweeps):
        for half, fixed, weight in zip(halves, reversed(halves), weights, strict=True):
            one_hots = one_hot[letters[:, fixed]].reshape(n, -1)
            scores = fields[half] + (one_hots @ weight).reshape(n, half.size, q)
            noise = rng.gumbel(size=scores.shape)
            letters[:, half] = (scores + noise).argmax(axis=-1)
    return letters
