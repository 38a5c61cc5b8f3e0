"""Prepares a data set: tokenizes a text into shards, once; again when the text changes."""

import os
import platform
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice

import numpy as np

from ..core.errors import DataError, Notice
from ..core.parse import read_table
from ..core.sync import sync
from ..core.versions import version
from .cache import locked, write_json
from .config import Data
from .data_key import DataKey, hashed
from .pieces import Piece, RowError
from .prepared import Prepared, checksums_of
from .shards import SHARD_TOKENS, SPLITS, Counts, Split, SplitWriter, token_dtype
from .tokenizers.controls import with_controls
from .tokenizers.load import load_tokenizer
from .tokenizers.saved import Saved
from .tokenizers.tokenizer import Tokenizer

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, the bytes done and the total bytes if known."""

SAVE_EVERY = 1 << 24
"""Bytes of text between two saves of an unfinished preparation's progress."""


def prepare(
    data: Data, *, progress: Progress | None = None, shard_tokens: int = SHARD_TOKENS
) -> Prepared:
    """Return the prepared set of a `[data]` table, from the cache if it is there and current.

    It is built in a folder beside its final one and renamed when complete. An interrupted
    preparation resumes; a changed text is prepared again. A second process that wants the same set
    waits for the first.

    The texts of a mixture are prepared one by one, with the tokenizer of the first.

    Raises:
        DataError: the text or the tokenizer is missing or unreadable, or a split would be empty.
    """
    first = _prepare_one(data, progress or _quiet, shard_tokens)
    if not data.mixture:
        return first
    tokenizer = data.tokenizer
    if tokenizer.is_trained:
        tokenizer = Saved(path=str(first.folder / "tokenizer"))
    mixed = {
        text.name: _prepare_one(
            data.of(text).model_copy(update={"tokenizer": tokenizer}),
            progress or _quiet,
            shard_tokens,
        )
        for text in data.mixture
    }
    return Prepared(first.folder, mixed)


def _prepare_one(data: Data, progress: Progress, shard_tokens: int) -> Prepared:
    """Prepare the text of a `[data]` table without its mixture."""
    key = DataKey(data)
    folder = key.folder
    try:
        with locked(folder.with_name(folder.name + ".lock")):
            if not is_current(key):
                Preparation(key, progress, shard_tokens).run()
    except OSError as error:
        raise DataError(
            f"{key.source} can't be prepared into {folder}: {error}. "
            "$MLXT_CACHE chooses another place."
        ) from error
    return Prepared(folder)


def is_current(key: DataKey) -> bool:
    """Return whether the finished set exists and was made from the text as it is now.

    Files with new dates and the same content count as unchanged.
    """
    path = key.folder / "manifest.json"
    if not path.exists():
        return False
    try:
        prepared = Prepared(key.folder)
        manifest, identity = prepared.manifest, key.identity()
        if manifest["identity"] == identity and "checksums" in manifest:
            return True
        if manifest["digest"] != key.digest():
            return False
        # Sets that older versions prepared have no checksums.
        sums = manifest.get("checksums") or checksums_of(prepared)
    except (DataError, KeyError):
        return False
    write_json(path, {**manifest, "identity": identity, "checksums": sums})
    return True


def _quiet(what: str, done: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class _State:
    """Progress of an unfinished preparation, as `progress.json` holds it."""

    digest: str
    shard_tokens: int
    pieces: int
    """Pieces written."""
    splits: dict[Split, Counts]


class Preparation:
    """The preparation of one set, in a folder beside its final one."""

    def __init__(self, key: DataKey, progress: Progress, shard_tokens: int) -> None:
        self.key, self.progress, self.shard_tokens = key, progress, shard_tokens
        self.partial = key.folder.with_name(key.folder.name + ".partial")

    def run(self) -> None:
        """Prepare the set and move it to its final folder."""
        self.progress("reading", 0, None)
        self.key.check()
        identity, digest = self.key.identity(), self.key.digest()
        state = self._unfinished(digest)
        tokenizer = self._tokenizer(state)
        counts = self._write(tokenizer, state)
        try:
            self._check(counts)
            if self.key.identity() != identity:
                raise DataError(f"{self.key.source} changed while it was read: run again.")
        except DataError:
            shutil.rmtree(self.partial)
            raise
        manifest = _manifest(self.key, tokenizer, counts, self.shard_tokens) | {
            "digest": digest,
            "identity": identity,
            "labels": self.labels,
        }
        if self.key.n_skipped:
            manifest["skipped_rows"] = self.key.n_skipped
            warnings.warn(self._skipped(), Notice, stacklevel=2)
        write_json(self.partial / "manifest.json", manifest)
        sums = checksums_of(Prepared(self.partial))
        write_json(self.partial / "manifest.json", {**manifest, "checksums": sums})
        self._put()

    def _unfinished(self, digest: str) -> _State:
        """Return the progress of an interrupted preparation of the same text, or a clean start."""
        try:
            saved = read_table(self.partial / "progress.json")
            if (saved["digest"], saved["shard_tokens"]) == (digest, self.shard_tokens):
                counts = {split: Counts(**saved["splits"][split]) for split in SPLITS}
                return _State(digest, self.shard_tokens, int(saved["pieces"]), counts)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        return _State(digest, self.shard_tokens, 0, {split: Counts() for split in SPLITS})

    def _tokenizer(self, state: _State) -> Tokenizer:
        folder = self.partial / "tokenizer"
        if (folder / "manifest.json").exists():
            return load_tokenizer(folder)
        config = self.key.data.tokenizer
        if config.is_trained:
            self.progress("training the tokenizer", 0, None)
        splits: tuple[Split, ...] = SPLITS if config.trained_on == "all" else ("train",)
        built = config.build(
            piece.text
            for key in (self.key, *self.key.mixed)
            for split, piece in key.pieces()
            if split in splits
        )
        tokenizer = with_controls(built, self.key.data.batch.controls())
        tokenizer.save(folder)
        write_json(self.partial / "progress.json", asdict(state))
        return tokenizer

    def _skipped(self) -> str:
        first = next(source.first_skipped for source in self.key.checked if source.n_skipped)
        n = self.key.n_skipped
        rows = "1 row" if n == 1 else f"{n:,} rows"
        verb = "was" if n == 1 else "were"
        return f"{rows} of {self.key.source} {verb} left out. The first: {first}"

    @cached_property
    def labels(self) -> list[str]:
        """Every label of the records, sorted: label i is class i. Whole numbers are sorted as
        such."""
        batch = self.key.data.batch
        if not batch.reads_records:
            return []
        pieces = (piece for _, piece in self.key.pieces())
        labels = {label for piece in pieces for label in batch.labels(piece.record or {})}
        numbers = sorted(label for label in labels if isinstance(label, int))
        if len(numbers) == len(labels):
            return list(map(str, numbers))
        return sorted(set(map(str, labels)))

    def _write(self, tokenizer: Tokenizer, state: _State) -> dict[Split, Counts]:
        dtype, batch = token_dtype(tokenizer.vocab_size), self.key.data.batch
        if batch.reads_records:
            self._encode(tokenizer)
        writers: dict[Split, SplitWriter] = {
            split: SplitWriter(self.partial, split, dtype, self.shard_tokens, state.splits[split])
            for split in SPLITS
        }
        end = None if self.key.ready_tokens or batch.reads_records else tokenizer.eos_id
        begin = tokenizer.prefix if batch.covers_text and not self.key.ready_tokens else ()
        sizes = [source.n_bytes() for source in self.key.sources]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        done = saved = sum(writer.counts.bytes for writer in writers.values())
        try:
            pieces = enumerate(islice(self.key.pieces(), state.pieces, None), state.pieces)
            for number, (split, piece) in pieces:
                if done - saved >= SAVE_EVERY:
                    self._save(state, number, writers)
                    saved = done
                if piece.fields is not None:
                    done += _write_record(writers[split], piece, piece.fields)
                else:
                    done += _write_piece(writers[split], tokenizer, piece, begin, end)
                self.progress("tokenizing", done, total)
            for writer in writers.values():
                _end_document(writer, end)
        finally:
            for writer in writers.values():
                writer.close()
        return {split: writer.counts for split, writer in writers.items()}

    def _encode(self, tokenizer: Tokenizer) -> None:
        """Have records encoded as they are read, so that those that can't be are bad rows too."""
        batch = self.key.data.batch
        labels = {name: number for number, name in enumerate(self.labels)}

        def encoded(accept: Callable[[Piece], Piece], piece: Piece) -> Piece:
            accepted = accept(piece)
            assert accepted.record is not None, "a kind that reads records has accepted it"
            try:
                fields = batch.encode(accepted.record, tokenizer, labels)
            except RowError as error:
                raise RowError(f"{piece.where}: {error}") from None
            return replace(accepted, fields=fields)

        for source in self.key.checked:
            source.accept = partial(encoded, source.accept)

    def _save(self, state: _State, pieces: int, writers: dict[Split, SplitWriter]) -> None:
        for writer in writers.values():
            writer.sync()
        counts = {split: writer.counts for split, writer in writers.items()}
        now = replace(state, pieces=pieces, splits=counts)
        write_json(self.partial / "progress.json", asdict(now))

    def _check(self, counts: dict[Split, Counts]) -> None:
        data = self.key.data
        required: tuple[Split, ...] = (
            SPLITS if self.key.valid or data.valid_fraction else ("train",)
        )
        for split in required:
            if counts[split].tokens == 0:
                n_documents = sum(count.documents for count in counts.values())
                plural = "" if n_documents == 1 else "s"
                has = f"{n_documents} document{plural}, equal ones on the same side,"
                tail = "cuts by length instead of by document"
                if data.batch.reads_records:
                    has, tail = "too few records", "holds out the last records"
                raise DataError(
                    f"Splitting {self.key.source} left nothing for '{split}': it has {has} and "
                    f'data.valid_fraction is {data.valid_fraction}. data.split="tail" {tail}; '
                    "data.valid_path names other files for validation."
                    + (f" {self._skipped()}" if self.key.n_skipped else "")
                )

    def _put(self) -> None:
        (self.partial / "progress.json").unlink(missing_ok=True)
        place = self.key.folder
        old = place.with_name(place.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            os.rename(place, old)
        os.rename(self.partial, place)
        sync(place.parent)
        shutil.rmtree(old, ignore_errors=True)


def _write_record(writer: SplitWriter, piece: Piece, fields: Sequence[Sequence[int]]) -> int:
    """Append a record, each field stored as one document, and return the bytes of its text."""
    for field in fields:
        writer.start_document()
        writer.append(_stored(field, writer.dtype, piece.where))
    n_bytes = len(piece.text.encode())
    writer.counts.bytes += n_bytes
    return n_bytes


def _stored(field: Sequence[int], dtype: np.dtype, where: str) -> np.ndarray:
    array = np.asarray(field, dtype=np.int64)
    if array.size and array.max() > np.iinfo(dtype).max:
        raise DataError(
            f"{where}: the position {array.max()} is too large to be stored as {dtype.name}."
        )
    return array


def _write_piece(
    writer: SplitWriter,
    tokenizer: Tokenizer,
    piece: Piece,
    begin: tuple[int, ...],
    end: int | None,
) -> int:
    """Append a piece and return the bytes of its text. A document begins with the tokens `begin`,
    those of the tokenizer's template, and ends with `end`."""
    if piece.first:
        _end_document(writer, end)
        writer.start_document()
        if begin:
            writer.append(np.array(begin))
    if piece.tokens is not None:
        return _write_tokens(writer, tokenizer, piece, piece.tokens)
    writer.append(tokenizer.encode_array(piece.text))
    n_bytes = len(piece.text.encode())
    writer.counts.bytes += n_bytes
    return n_bytes


def _write_tokens(
    writer: SplitWriter, tokenizer: Tokenizer, piece: Piece, tokens: np.ndarray
) -> int:
    """Append token ids, in which each end token starts a new document."""
    if tokens.max(initial=0) >= tokenizer.vocab_size:
        raise DataError(
            f"{piece.where} has the token {tokens.max()}, which the tokenizer ({tokenizer.kind}, "
            f"{tokenizer.vocab_size} tokens) doesn't know: it was made with another one."
        )
    if tokenizer.eos_id is not None:
        if not piece.first and writer.last() == tokenizer.eos_id:
            writer.start_document()
        for place in np.flatnonzero(tokens[:-1] == tokenizer.eos_id) + 1:
            writer.start_document(ahead=int(place))
    n_bytes = tokenizer.count_bytes(tokens)
    writer.append(tokens)
    writer.counts.bytes += n_bytes
    return n_bytes


def _end_document(writer: SplitWriter, end: int | None) -> None:
    if end is not None and writer.counts.tokens:
        writer.append(np.array([end]))


def _manifest(
    key: DataKey, tokenizer: Tokenizer, counts: dict[Split, Counts], shard_tokens: int
) -> dict[str, object]:
    source = key.source
    splits = {
        split: asdict(count) | {"bytes_per_token": count.bytes / max(1, count.tokens)}
        for split, count in counts.items()
    }
    return {
        "name": source.name,
        "key": key.settings(),
        "fingerprint": hashed([key.content_settings(), key.digest(), tokenizer.fingerprint()]),
        "licence": source.licence,
        "attribution": source.attribution,
        "tokenizer": tokenizer.description(),
        "dtype": token_dtype(tokenizer.vocab_size).str,
        "shard_tokens": shard_tokens,
        "splits": splits,
        "packages": _packages(tokenizer),
    }


def _packages(tokenizer: Tokenizer) -> dict[str, str]:
    names = ["numpy"] + ([tokenizer.package] if tokenizer.package else [])
    return {"python": platform.python_version()} | {name: version(name) for name in names}
