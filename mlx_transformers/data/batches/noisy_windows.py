"""Shared base of batch kinds that add noise to windows of running text."""

from abc import abstractmethod

import numpy as np

from ..example_rows import EvalWindows, ExampleRows, Make, Widths, Windows
from ..kinds import BatchKind, BatchSetting
from ..prepared import Prepared
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer


class NoisyWindows(BatchKind):
    """A row is a window of text, across documents, with noise drawn for that row."""

    @abstractmethod
    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make[np.ndarray], Widths]:
        """Return the tokens of a window, the function that builds a row, and its arrays' widths."""

    def fixed_copies(self) -> int | None:
        """Return how many fixed noise patterns are cycled through; None draws new noise."""
        return None

    def train(self, prepared: Prepared, setting: BatchSetting) -> ExampleRows[np.ndarray]:
        length, make, widths = self.maker(prepared.tokenizer, setting.seq_len)
        windows = Windows(prepared, length, setting, self.fixed_copies())
        return ExampleRows(windows, make, widths, setting.seed)

    def held_out(
        self, prepared: Prepared, split: Split, setting: BatchSetting
    ) -> ExampleRows[np.ndarray]:
        length, make, widths = self.maker(prepared.tokenizer, setting.seq_len)
        return ExampleRows(EvalWindows(prepared, split, length), make, widths, setting.seed)


def encoder_widths(seq_len: int, *names: str) -> dict[str, list[int]]:
    """Return the one width of every array with a value per token."""
    return {name: [seq_len] for name in ("tokens", "valid", *names)}


def with_cls_sep(
    tokenizer: Tokenizer, first: np.ndarray, second: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`: `tokens`, `types` (1 from
    the second on) and `valid`; Devlin et al. 2018, section 3."""
    sep = tokenizer.control("sep")
    tokens = np.concatenate([[tokenizer.control("cls")], first, [sep]])
    types = np.zeros(len(tokens), np.int32)
    if second is not None:
        tokens = np.concatenate([tokens, second, [sep]])
        types = np.append(types, np.ones(len(second) + 1, np.int32))
    return {"tokens": tokens, "types": types, "valid": np.ones(len(tokens), bool)}
