"""Every row of a certificate holds on a small model, and breaks when its property is broken."""

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from small import recipe

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.certify import certificate, derived, exported, gradients, processes
from mlx_transformers.certify import subject as subjects
from mlx_transformers.certify.certificate import ROWS, certify, measured
from mlx_transformers.certify.decoding import DECODING
from mlx_transformers.certify.difference import tree_difference
from mlx_transformers.certify.row import Measured, Row
from mlx_transformers.certify.subject import Subject, subject_of_recipe
from mlx_transformers.compress.capture import logits_of
from mlx_transformers.decode.engine import Engine
from mlx_transformers.models import stack
from mlx_transformers.models.decoder import DecoderModel
from mlx_transformers.objectives import clm
from mlx_transformers.objectives.chunked_loss import ChunkedLoss
from mlx_transformers.trainer.step import Step
from mlx_transformers.verbs import export_run
from mlx_transformers.verbs.import_run import import_run

Patch = pytest.MonkeyPatch
HERE = [row.name for row in ROWS if row.name not in {r.name for r in processes.PROCESSES}]
ABSENT = ("exported = live in mlx-lm", "exported = live in transformers")
"""Rows that need libraries which may not be installed."""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A decoder of 16 dimensions."""
    home = tmp_path_factory.mktemp("certified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXT_CACHE", str(home / "cache"))
        patch.chdir(home)
        patch.setattr(gradients, "compiling", lambda: True)
        draw = random.Random(0)
        words = ("the", "king", "of", "love", "and", "sorrow", "went", "to", "see", "light")
        (home / "text.txt").write_text(" ".join(draw.choice(words) for _ in range(600)))
        (home / "tiny.toml").write_text(recipe())
        made = subject_of_recipe("tiny.toml", ["model.max_seq_len=32"], home)
        environment = made.folder.path / "environment.json"
        facts = json.loads(environment.read_text())
        facts |= {"pruned": {}, "merged": "", "source": str(made.checkpoint)}
        environment.write_text(json.dumps(facts))
        yield made


@pytest.mark.parametrize("name", HERE)
def test_a_row_holds(subject: Subject, name: str) -> None:
    verdict = measured(next(row for row in ROWS if row.name == name), subject)
    expected = {"holds", "doesn't apply"} if name in ABSENT else {"holds"}
    assert verdict.state in expected, verdict


def forget_earlier_microbatches(patch: Patch) -> None:
    patch.setattr(Step, "_accumulate", lambda self, total, *rest: self._gradients(*rest))


def attend_across_documents(patch: Patch) -> None:
    def next_tokens(batch: Any, ctx: Any) -> Any:
        tokens = batch["tokens"]
        return tokens[:, :-1], tokens[:, 1:], mx.ones(tokens[:, 1:].shape)

    patch.setattr(clm, "next_tokens", next_tokens)


def compute_otherwise_when_eager(patch: Patch) -> None:
    plain, factor = Step._gradients, [1.0]

    @contextmanager
    def eager() -> Iterator[None]:
        factor[0] = 1.01
        yield

    patch.setattr(gradients, "eager", eager)
    patch.setattr(Step, "_gradients", lambda *a: tree_map(lambda x: factor[0] * x, plain(*a)))


def lose_a_chunk(patch: Patch) -> None:
    plain = ChunkedLoss.__call__

    def short(self: ChunkedLoss, model: Any, h: Any, targets: Any, weights: Any, ctx: Any) -> Any:
        if self.chunk == gradients.CHUNK:
            weights = weights * (mx.arange(weights.shape[1]) >= gradients.CHUNK)
        return plain(self, model, h, targets, weights, ctx)

    patch.setattr(ChunkedLoss, "__call__", short)


def recompute_something_else(patch: Patch) -> None:
    patch.setattr(stack, "recompute", lambda modules, f: lambda x, *rest: f(1.01 * x, *rest))


def cache_the_wrong_token(patch: Patch) -> None:
    plain = DecoderModel.step
    patch.setattr(DecoderModel, "step", lambda self, tokens, state: plain(self, 0 * tokens, state))


def attend_to_padding(patch: Patch) -> None:
    plain = Engine.start

    def start(self: Engine, prompts: Any, *rest: Any) -> None:
        plain(self, prompts, *rest)
        if len(prompts) > 1:
            self._pads = [0] * len(prompts)
            self.cache = self._empty(self._length)

    patch.setattr(Engine, "start", start)


def export_other_weights(patch: Patch) -> None:
    plain = export_run.in_range
    patch.setattr(export_run, "in_range", lambda *args: 1.01 * plain(*args))


def change_the_derived_model(patch: Patch) -> None:
    plain, seen = derived.load, list[Any]()

    def load(place: Any) -> Any:
        model, tokenizer = plain(place)
        if seen:
            model.update(tree_map(lambda x: 20 * x, model.parameters()))
        seen.append(place)
        return model, tokenizer

    patch.setattr(derived, "load", load)


BREAKS = {
    "accumulated = whole batch": forget_earlier_microbatches,
    "packed = apart": attend_across_documents,
    "compiled = eager": compute_otherwise_when_eager,
    "chunked = full loss": lose_a_chunk,
    "recomputed = stored": recompute_something_else,
    "cached = uncached": cache_the_wrong_token,
    "batch of prompts = one by one": attend_to_padding,
    **dict.fromkeys(("exported = live", *ABSENT), export_other_weights),
    "quantized or pruned = source": change_the_derived_model,
    "fused = source": change_the_derived_model,
}


def test_every_row_is_broken_on_purpose_somewhere() -> None:
    assert {*HERE} == {*BREAKS}


@pytest.mark.parametrize("name", BREAKS)
def test_a_row_breaks(subject: Subject, name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    BREAKS[name](monkeypatch)
    if name in ABSENT:
        stand_in_for_libraries(monkeypatch, tmp_path)
    fresh = Subject(subject.folder, subject.checkpoint, tmp_path)
    row = next(row for row in ROWS if row.name == name)
    verdict = measured(row, fresh)
    assert verdict.state == "broken", verdict
    assert verdict.worst is not None, verdict  # a difference, not an error


def stand_in_for_libraries(patch: Patch, work: Path) -> None:
    """Let this project read the export in place of mlx-lm and of transformers."""

    def loaded(folder: Path | str) -> Any:
        return load(import_run(Path(folder), "theirs", work, say=lambda _: None).path)[0]

    def load_model(folder: Path) -> Any:
        model = loaded(folder)
        return lambda tokens: logits_of(model, tokens), None

    def from_pretrained(folder: str) -> Any:
        model = loaded(folder)

        def call(tokens: np.ndarray) -> Any:
            logits = SimpleNamespace(numpy=lambda: np.array(logits_of(model, mx.array(tokens))))
            return SimpleNamespace(logits=SimpleNamespace(float=lambda: logits))

        return SimpleNamespace(eval=lambda: call)

    libraries = {
        "mlx_lm.utils": SimpleNamespace(load_model=load_model),
        "transformers": SimpleNamespace(
            AutoModelForCausalLM=SimpleNamespace(from_pretrained=from_pretrained)
        ),
        "torch": SimpleNamespace(
            tensor=lambda array, dtype: array.astype(dtype), long=np.int64, no_grad=nullcontext
        ),
    }
    patch.setattr(exported, "find_spec", lambda name: name)
    patch.setattr(exported, "import_module", libraries.__getitem__)


@pytest.mark.parametrize("name", ABSENT)
def test_a_row_of_a_library_holds_where_it_reads_the_export_as_we_do(
    subject: Subject, name: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    stand_in_for_libraries(monkeypatch, tmp_path)
    fresh = Subject(subject.folder, subject.checkpoint, tmp_path)
    verdict = measured(next(row for row in ROWS if row.name == name), fresh)
    assert verdict.state == "holds", verdict


def test_a_signal_ends_trainings_too(subject: Subject, monkeypatch: Patch, tmp_path: Path) -> None:
    started = []

    def stopped(subject: Subject) -> Measured:
        with processes.Trainings(subject.recipe, [], tmp_path) as runs:
            started.append(runs.start("long"))
            os.kill(os.getpid(), signal.SIGTERM)
            runs.finish(*started)
        return Measured(0.0)

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(python))
    monkeypatch.setattr(certificate, "ROWS", (Row("a = b", "", "", 0.0, stopped),))
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        certify(str(subject.folder.path), only=["a"])
    assert left.value.code == 128 + signal.SIGTERM
    assert started[0].poll() == -signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) == usual


@pytest.mark.parametrize("name", [row.name for row in processes.PROCESSES])
def test_trained_weights_that_differ_break_a_row(
    subject: Subject, name: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    """The processes themselves are started by the long test below."""
    trees = {"model": {"w": mx.ones(3)}, "optimizer": {"m": mx.ones(3)}}
    moved = trees | {"model": {"w": 1.001 * mx.ones(3)}}
    other = {"one": trees, "whole": trees, "two": moved, "killed": moved}
    monkeypatch.setattr(processes.Trainings, "start", lambda *args, **env: None)
    monkeypatch.setattr(processes.Trainings, "finish", lambda *args: None)
    monkeypatch.setattr(processes, "kill_at", lambda *args: None)
    row = next(row for row in ROWS if row.name == name)
    fresh = Subject(subject.folder, subject.checkpoint, tmp_path)
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(processes.Trainings, "last", lambda self, which: other[which])
    assert measured(row, fresh).state == "broken"
    monkeypatch.setattr(processes.Trainings, "last", lambda self, which: trees)
    assert measured(row, fresh).state == "holds"


def test_packed_weights_hide_no_difference_of_the_others() -> None:
    words = mx.array([2**32 - 1] * 100, mx.uint32)
    tree = {"packed": words, "gain": mx.ones(3)}
    assert tree_difference(tree, tree) == 0
    assert tree_difference(tree, tree | {"gain": 1.01 * mx.ones(3)}) == pytest.approx(
        0.01, rel=0.01
    )
    assert tree_difference(tree, tree | {"packed": words - 1}) == float("inf")


@pytest.mark.parametrize(
    "sets",
    [
        ("grow=[{at=2, n_layers=2}]", "train.steps=100"),
        ("sparse={sparsity=0.5}", "train.steps=200"),
        ("train.noise_scale=true", "train.accumulate=2"),
        ("train.seq_len_warmup={start=12, steps=9}",),
    ],
)
def test_keys_that_short_trainings_would_refuse_are_left_out_of_them(
    subject: Subject, sets: tuple[str, ...], monkeypatch: Patch, tmp_path: Path
) -> None:
    started = []

    def start(words: list[str], **options: Any) -> Any:
        given = [word for option, word in pairwise(words) if option == "--set"]
        started.append(load_recipe(words[4], given))
        return SimpleNamespace(kill=lambda: None, wait=lambda: None)

    monkeypatch.setattr(subjects, "LONGEST", 12)
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=start))
    monkeypatch.setattr(processes.Trainings, "finish", lambda *args: None)
    monkeypatch.setattr(processes, "kill_at", lambda *args: None)
    monkeypatch.setattr(processes.Trainings, "last", lambda *args: {"model": {"w": mx.ones(3)}})
    made = subject_of_recipe("tiny.toml", sets, tmp_path)
    assert len(made.plain.model.parameters()["stack"]["blocks"]) == 1
    for row in processes.PROCESSES:
        verdict = measured(row, made)
        assert verdict.state == "holds", verdict
    assert len(started) == 6


def test_the_recipe_of_trainings_is_not_written_again_while_one_reads_it(
    subject: Subject, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *args, **options: None)
    runs = processes.Trainings(subject.recipe, [], tmp_path)
    runs.start("one")
    assert "[model]" in runs.file.read_text()
    runs.file.write_text("read now")
    runs.start("two")
    assert runs.file.read_text() == "read now"


@pytest.mark.parametrize(("given", "measured_at"), [(320, 240), (200, 200)])
def test_rows_of_alignments_are_cut_to_whole_sequences(given: int, measured_at: int) -> None:
    evoformer = load_recipe("protein/evoformer_tiny", [f"train.seq_len={given}"])
    assert evoformer.data.batch.row_unit == 20
    assert f"train.seq_len={measured_at}" in subjects.sizes(evoformer)


def test_batches_of_several_texts_excuse_rows_about_one(subject: Subject, tmp_path: Path) -> None:
    pairs = Subject(subject.folder, subject.checkpoint, tmp_path)
    pairs.batch = {"chosen": mx.zeros((4, 8), mx.int32), "rejected": mx.zeros((4, 8), mx.int32)}
    for row in (*DECODING, *exported.EXPORTED):
        assert measured(row, pairs).state == "doesn't apply", row.name


def test_a_model_without_blocks_has_nothing_to_recompute(subject: Subject, tmp_path: Path) -> None:
    vectors = Subject(subject.folder, subject.checkpoint, tmp_path)
    vectors.recipe = load_recipe("embeddings/word2vec_tiny")
    vectors.plain = SimpleNamespace(model=vectors.recipe.model.build(9))
    row = next(row for row in ROWS if row.name == "recomputed = stored")
    assert measured(row, vectors).state == "doesn't apply"


def test_an_error_of_any_kind_breaks_its_row_alone(subject: Subject) -> None:
    def fail(subject: Subject) -> Measured:
        raise KeyError("tokens")

    verdict = measured(Row("a = b", "", "", 0.0, fail), subject)
    assert (verdict.state, verdict.note) == ("broken", "KeyError: 'tokens'")


@pytest.mark.soak
@pytest.mark.parametrize("name", [row.name for row in processes.PROCESSES])
def test_processes_are_started_killed_and_compared(subject: Subject, name: str) -> None:
    verdict = measured(next(row for row in ROWS if row.name == name), subject)
    assert verdict.state == "holds", verdict


def test_a_model_without_logits_is_compared_by_its_vectors(subject: Subject) -> None:
    model = subject.plain.model
    assert exported.outputs(model, subject).shape[-1] == model.vocab_size
