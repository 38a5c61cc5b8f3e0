"""Shared base of the batches of word2vec: words, their neighbours, and words drawn at random."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from ...core.errors import DataError
from ..example_rows import EvalWindows, ExampleRows, Make, Row, Windows
from ..kinds import BatchKind, BatchSetting, Columns
from ..noise.contexts import drawn_words, kept_shares, noise_shares
from ..prepared import Prepared
from ..shards import Split

LEAST = 2
"""The mean number of words that have to stay of a row."""
ZIPF_WORDS = 10_000
"""Words of a vocabulary that is not known yet."""
SPREADS = 2
"""Room for rows with more examples than the mean, in standard deviations of a fair coin's."""


class WordWindows(BatchKind):
    """Examples cut from windows of T words of running text: from some words the model distinguishes
    another one from words drawn at random.

    `tokens` and `valid` [B, N, I], the given words of N examples, up to I each; `targets` [B, N];
    `negatives` [B, N, K]; `weights` [B, N], 0 where there is no example. Words that are not in the
    vocabulary are taken out of the text, and frequent ones by chance, before windows are cut
    (Mikolov et al. 2013b, section 2.3).
    """

    gives: ClassVar[tuple[str, ...]] = ("tokens", "valid", "targets", "negatives", "weights")

    window: int = Field(5, ge=1, le=100)
    """The most words on either side; each word's own window is drawn from 1 to this."""
    negatives: int = Field(5, ge=1, le=1000)
    """K, words drawn at random for each example (2 to 5 for large data, 5 to 20 for small)."""
    power: float = Field(0.75, ge=0, le=10)
    """The noise distribution is the words' counts to this power."""
    subsample: float | None = Field(None, gt=0)
    """t: an occurrence of a word of frequency f stays with probability `sqrt(t / f)`; none keeps
    all."""

    @abstractmethod
    def sizes(self, seq_len: int) -> tuple[int, int]:
        """N and I: the most examples of a row, and the most given words of one."""

    @property
    def filled(self) -> float:
        """The share of N that a row has on average if all words stay."""
        return 1.0

    @abstractmethod
    def examples(
        self, text: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The examples of the words that stayed, `text [n]`: tokens and valid `[m, I]`, targets
        `[m]`."""

    def columns(self, seq_len: int) -> Columns:
        # Each vector that is looked up counts as a token that the model reads. The text isn't there
        # yet: its words are taken to follow Zipf's law. Of the two widths it is the usual one: the
        # larger is that of rows of which no word is dropped, many times as wide where t is small.
        counts = ZIPF_WORDS / np.arange(1, ZIPF_WORDS + 1)
        share = kept_shares(counts, self.subsample) @ counts / counts.sum()
        n, n_inputs = min(self._widths(float(share), seq_len)), self.sizes(seq_len)[1]
        return Columns(n * (n_inputs + 1 + self.negatives), 0)

    def train(self, prepared: Prepared, setting: BatchSetting) -> ExampleRows[np.ndarray]:
        windows = Windows(prepared, setting.seq_len, setting)
        return self._rows(windows, prepared, setting)

    def held_out(
        self, prepared: Prepared, split: Split, setting: BatchSetting
    ) -> ExampleRows[np.ndarray]:
        windows = EvalWindows(prepared, split, setting.seq_len)
        return self._rows(windows, prepared, setting)

    def _rows(
        self, windows: Windows | EvalWindows, prepared: Prepared, setting: BatchSetting
    ) -> ExampleRows[np.ndarray]:
        noise, kept_shares = self._shares(prepared, setting.seq_len)
        make = self._maker(noise, kept_shares)
        widths = dict.fromkeys(
            self.gives, self._checked_widths(prepared, kept_shares, setting.seq_len)
        )
        return ExampleRows(windows, make, widths, setting.seed)

    def _shares(self, prepared: Prepared, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
        """The noise distribution, cumulated, and the share of each word that stays, `[V]`.

        Raises:
            DataError: the text has too few words.
        """
        counts = prepared.tokens("train").counts(prepared.vocab_size)
        unknown = prepared.tokenizer.unknown_id
        if unknown is not None:
            counts[unknown] = 0
        if np.count_nonzero(counts) < 2:
            raise DataError(
                "The training text has fewer than two words of the vocabulary, and word vectors "
                "are learnt by telling words apart. Give more text, or a smaller "
                "data.tokenizer.min_count."
            )
        return noise_shares(counts, self.power), kept_shares(counts, self.subsample) * (counts > 0)

    def _checked_widths(self, prepared: Prepared, kept: np.ndarray, seq_len: int) -> list[int]:
        """`_widths` of a text.

        Raises:
            DataError: too few words of a row stay.
        """
        tokens = prepared.tokens("train")
        share = kept @ tokens.counts(prepared.vocab_size) / len(tokens)
        if share * seq_len < LEAST:
            raise DataError(
                f"Of the {seq_len} words of a row (train.seq_len) {share * seq_len:.1f} stay on "
                "average, too few to have neighbours. Raise data.batch.subsample, unset it, or "
                "take longer rows."
            )
        return self._widths(share, seq_len)

    def _widths(self, share: float, seq_len: int) -> list[int]:
        """Up to two widths, that of nearly all batches and the largest that there can be, of a text
        of whose words a share stays."""
        most, _ = self.sizes(seq_len)
        usual = share * self.filled * most + SPREADS * most / np.sqrt(seq_len)
        return [min(most, int(usual)), most] if usual < most else [most]

    def _maker(self, noise: np.ndarray, kept: np.ndarray) -> Make[np.ndarray]:
        def make(text: np.ndarray, rng: np.random.Generator) -> Row:
            tokens, valid, targets = self.examples(text[rng.random(len(text)) < kept[text]], rng)
            return {
                "tokens": tokens,
                "valid": valid,
                "targets": targets,
                "negatives": drawn_words(noise, (len(targets), self.negatives), rng),
                "weights": np.ones(len(targets), np.float32),
            }

        return make
