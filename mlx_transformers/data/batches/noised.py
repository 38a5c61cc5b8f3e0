"""What kinds of batch have in common that are made of windows of running text and noise."""

from abc import abstractmethod
from typing import Any

import numpy as np

from ..batching import Batching, Setting
from ..prepared import Prepared
from ..row_by_row import Make, Pass, RowByRow, Widths, Windows
from ..split import Split
from ..tokenizers.tokenizer import Tokenizer


class Noised(Batching):
    """A row is a window of text, whatever documents it holds, with noise drawn for the row."""

    @abstractmethod
    def maker(self, tokenizer: Tokenizer, seq_len: int) -> tuple[int, Make, Widths]:
        """Tokens of a window, the function of one window, and the widths of its arrays."""

    def fixed_copies(self) -> int | None:
        """How many fixed copies of the noise are gone through in turn; None draws it anew."""
        return None

    def train(self, prepared: Prepared, setting: Setting) -> RowByRow:
        length, make, widths = self.maker(prepared.tokenizer, setting.seq_len)
        windows = Windows(prepared, length, setting, self.fixed_copies())
        return RowByRow(windows, make, widths, setting.seed)

    def held_out(self, prepared: Prepared, split: Split, setting: Setting) -> RowByRow:
        length, make, widths = self.maker(prepared.tokenizer, setting.seq_len)
        return RowByRow(Pass(prepared, split, length), make, widths, setting.seed)


def encoder_widths(seq_len: int, *names: str) -> dict[str, list[int]]:
    """One width for every array that has a value for each token."""
    return {name: [seq_len] for name in ("tokens", "valid", *names)}


def framed(
    tokenizer: Tokenizer, first: np.ndarray, second: np.ndarray | None = None
) -> dict[str, Any]:
    """`[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`: `tokens`, `types` (1 from the
    second on) and `valid`; Devlin et al. 2018, section 3."""
    sep = tokenizer.control("sep")
    tokens = np.concatenate([[tokenizer.control("cls")], first, [sep]])
    types = np.zeros(len(tokens), np.int32)
    if second is not None:
        tokens = np.concatenate([tokens, second, [sep]])
        types = np.append(types, np.ones(len(second) + 1, np.int32))
    return {"tokens": tokens, "types": types, "valid": np.ones(len(tokens), bool)}
