"""Making a prepared set: once for a text, a split and a tokenizer; again when the text changes."""

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from importlib import metadata
from itertools import islice
from typing import Any

import numpy as np

from ..core.errors import DataError
from .batching import Batching
from .cache import locked, write_json
from .config import Data
from .origin import Origin, hashed
from .pieces import Piece
from .prepared import Prepared
from .shards import SHARD_TOKENS, Counts, SplitWriter, token_dtype
from .split import SPLITS, Split, routed
from .tokenizers.controls import with_controls
from .tokenizers.load import load_tokenizer
from .tokenizers.tokenizer import Tokenizer

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, bytes done, and bytes in all where that is known."""

SAVE_EVERY = 1 << 24
"""Bytes of text between two notes of how far an unfinished preparation is."""


def prepare(
    data: Data, *, progress: Progress | None = None, shard_tokens: int = SHARD_TOKENS
) -> Prepared:
    """The prepared set of a `[data]` table, from the cache where it is there and current.

    It is built in a folder beside its place, and renamed when it is whole. One that was
    interrupted goes on where it was; one whose text has changed is made anew. A second process
    that wants the same set waits for the first.

    Raises:
        DataError: the text or the tokenizer can't be had, or a split would be empty.
    """
    origin = Origin(data)
    folder = origin.folder
    try:
        with locked(folder.with_name(folder.name + ".lock")):
            if not is_current(origin):
                Preparation(origin, progress or _quiet, shard_tokens).run()
    except OSError as error:
        raise DataError(
            f"{origin.source} can't be prepared into {folder}: {error}. "
            "$MLXT_CACHE chooses another place."
        ) from error
    return Prepared(folder)


def is_current(origin: Origin) -> bool:
    """Whether the finished set is there, and made from the text as it is now.

    Files with new dates and the old content count as unchanged.
    """
    path = origin.folder / "manifest.json"
    if not path.exists():
        return False
    manifest, identity = Prepared(origin.folder).manifest, origin.identity()
    if manifest["identity"] == identity:
        return True
    if manifest["digest"] != origin.digest():
        return False
    write_json(path, manifest | {"identity": identity})
    return True


def _quiet(what: str, done: int, total: int | None) -> None:
    pass


class Preparation:
    """The work on one set, in a folder beside its place."""

    def __init__(self, origin: Origin, progress: Progress, shard_tokens: int) -> None:
        self.origin, self.progress, self.shard_tokens = origin, progress, shard_tokens
        self.partial = origin.folder.with_name(origin.folder.name + ".partial")

    def run(self) -> None:
        """Make the set, and put it in its place."""
        self.progress("reading", 0, None)
        self.origin.check()
        identity, digest = self.origin.identity(), self.origin.digest()
        state = self._unfinished(digest)
        tokenizer = self._tokenizer(state)
        counts = self._write(tokenizer, state)
        try:
            self._check(counts)
            if self.origin.identity() != identity:
                raise DataError(f"{self.origin.source} changed while it was read: run again.")
        except DataError:
            shutil.rmtree(self.partial)
            raise
        manifest = _manifest(self.origin, tokenizer, counts, self.shard_tokens)
        manifest |= {"digest": digest, "identity": identity, "labels": self.labels}
        write_json(self.partial / "manifest.json", manifest)
        self._put()

    def _unfinished(self, digest: str) -> dict[str, Any]:
        """How far an interrupted preparation of the same text came; else a clean start."""
        try:
            state = json.loads((self.partial / "progress.json").read_bytes())
            if (state["digest"], state["shard_tokens"]) == (digest, self.shard_tokens):
                return state
        except (OSError, ValueError, KeyError):
            pass
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        counts = {str(split): asdict(Counts()) for split in SPLITS}
        return {"digest": digest, "shard_tokens": self.shard_tokens, "pieces": 0, "splits": counts}

    def _pieces(self) -> Iterator[tuple[Split, Piece]]:
        return routed(self.origin.data, self.origin.source, self.origin.valid)

    def _tokenizer(self, state: dict[str, Any]) -> Tokenizer:
        folder = self.partial / "tokenizer"
        if (folder / "manifest.json").exists():
            return load_tokenizer(folder)
        self.progress("making the tokenizer", 0, None)
        config = self.origin.data.tokenizer
        splits = SPLITS if getattr(config, "reads", "all") == "all" else ("train",)
        built = config.build(piece.text for split, piece in self._pieces() if split in splits)
        tokenizer = with_controls(built, self.origin.data.batch.controls())
        tokenizer.save(folder)
        write_json(self.partial / "progress.json", state)
        return tokenizer

    @cached_property
    def labels(self) -> list[str]:
        """Every label that a record has, sorted: label i is class i."""
        batch = self.origin.data.batch
        if not batch.reads_records:
            return []
        pieces = (piece for _, piece in self._pieces())
        return sorted({name for piece in pieces for name in batch.names(piece.record or {})})

    def _write(self, tokenizer: Tokenizer, state: dict[str, Any]) -> dict[Split, Counts]:
        dtype = token_dtype(tokenizer.vocab_size)
        writers: dict[Split, SplitWriter] = {
            split: SplitWriter(
                self.partial, split, dtype, self.shard_tokens, Counts(**state["splits"][split])
            )
            for split in SPLITS
        }
        batch = self.origin.data.batch
        end = None if self.origin.ready_tokens or batch.reads_records else tokenizer.eos_id
        records = _RecordWriter(batch, tokenizer, self.labels) if batch.reads_records else None
        sizes = [source.n_bytes() for source in self.origin.sources]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        done = saved = sum(writer.counts.bytes for writer in writers.values())
        try:
            pieces = enumerate(islice(self._pieces(), state["pieces"], None), state["pieces"])
            for number, (split, piece) in pieces:
                if done - saved >= SAVE_EVERY:
                    self._save(state, number, writers)
                    saved = done
                if records is not None:
                    done += records.write(writers[split], piece)
                else:
                    done += _write_piece(writers[split], tokenizer, piece, end)
                self.progress("tokenizing", done, total)
            for writer in writers.values():
                _end_document(writer, end)
        finally:
            for writer in writers.values():
                writer.close()
        return {split: writer.counts for split, writer in writers.items()}

    def _save(self, state: dict[str, Any], pieces: int, writers: dict[Split, SplitWriter]) -> None:
        for writer in writers.values():
            writer.flush()
        counts = {split: asdict(writer.counts) for split, writer in writers.items()}
        write_json(self.partial / "progress.json", state | {"pieces": pieces, "splits": counts})

    def _check(self, counts: dict[Split, Counts]) -> None:
        data = self.origin.data
        wanted: tuple[Split, ...] = (
            SPLITS if self.origin.valid or data.valid_fraction else ("train",)
        )
        for split in wanted:
            if counts[split].tokens == 0:
                n_documents = sum(each.documents for each in counts.values())
                raise DataError(
                    f"Splitting {self.origin.source} left nothing for '{split}': it has "
                    f"{n_documents} documents and data.valid_fraction is {data.valid_fraction}. "
                    'data.split="tail" cuts by length instead of by document; data.valid_path '
                    "names other files for validation."
                )

    def _put(self) -> None:
        (self.partial / "progress.json").unlink(missing_ok=True)
        place = self.origin.folder
        old = place.with_name(place.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            os.rename(place, old)
        os.rename(self.partial, place)
        shutil.rmtree(old, ignore_errors=True)


class _RecordWriter:
    """Appends records, each field of which is stored as a document is."""

    def __init__(self, batch: Batching, tokenizer: Tokenizer, labels: list[str]) -> None:
        self.batch, self.tokenizer = batch, tokenizer
        self.labels = {name: number for number, name in enumerate(labels)}

    def write(self, writer: SplitWriter, piece: Piece) -> int:
        """Append one; returns how many bytes of text it has."""
        assert piece.record is not None
        for field in self.batch.encode(piece.record, self.tokenizer, self.labels):
            writer.start_document()
            writer.append(_stored(field, writer.dtype, piece.where))
        n_bytes = len(piece.text.encode())
        writer.counts.bytes += n_bytes
        return n_bytes


def _stored(field: list[int], dtype: np.dtype, where: str) -> np.ndarray:
    array = np.asarray(field, dtype=np.int64)
    if array.size and array.max() > np.iinfo(dtype).max:
        raise DataError(f"{where}: the place {array.max()} is too far into its text to be stored.")
    return array


def _write_piece(writer: SplitWriter, tokenizer: Tokenizer, piece: Piece, end: int | None) -> int:
    """Append a piece; returns how many bytes of text it has."""
    if piece.first:
        _end_document(writer, end)
        writer.start_document()
    if piece.tokens is not None:
        return _write_tokens(writer, tokenizer, piece, piece.tokens)
    writer.append(tokenizer.encode_array(piece.text))
    n_bytes = len(piece.text.encode())
    writer.counts.bytes += n_bytes
    return n_bytes


def _write_tokens(
    writer: SplitWriter, tokenizer: Tokenizer, piece: Piece, tokens: np.ndarray
) -> int:
    """Append ready-made tokens, in which a document starts after each end token."""
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
    origin: Origin, tokenizer: Tokenizer, counts: dict[Split, Counts], shard_tokens: int
) -> dict[str, Any]:
    source = origin.source
    splits = {
        split: asdict(each) | {"bytes_per_token": each.bytes / max(1, each.tokens)}
        for split, each in counts.items()
    }
    return {
        "name": source.name,
        "key": origin.key(),
        "fingerprint": hashed([origin.division(), origin.digest(), tokenizer.fingerprint()]),
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
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
