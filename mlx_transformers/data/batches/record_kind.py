"""Shared base of batch kinds that are made of records with named fields."""

from abc import abstractmethod
from typing import ClassVar

from ..example_rows import RecordRows
from ..kinds import BatchKind, BatchSetting
from ..prepared import Prepared
from ..shards import Split


class RecordKind(BatchKind):
    """A row is a record; training and evaluation build it in the same way."""

    reads_records: ClassVar[bool] = True

    @abstractmethod
    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        """Return the rows of a split, in random order and endless if `train`.

        Raises:
            DataError: the split has no records.
        """

    def train(self, prepared: Prepared, setting: BatchSetting) -> RecordRows:
        return self.rows(prepared, "train", setting, train=True)

    def held_out(self, prepared: Prepared, split: Split, setting: BatchSetting) -> RecordRows:
        return self.rows(prepared, split, setting, train=False)
