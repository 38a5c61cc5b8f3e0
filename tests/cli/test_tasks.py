"""`mlxt eval --task`: a run measured with the metrics of its field."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.streams import validation_stream
from mlx_transformers.core.task import MEASURED
from mlx_transformers.data.corpora import spoken
from mlx_transformers.data.sound.read import wav_bytes
from mlx_transformers.decode.beam import Beams
from mlx_transformers.score.interval import Score
from mlx_transformers.score.texts import summarization
from mlx_transformers.verbs.evaluate import open_run
from mlx_transformers.verbs.search import search
from mlx_transformers.verbs.tasks.measure import TASKS, measure
from mlx_transformers.verbs.tasks.seq2seq import GeneratedText, generate_targets, score_by_length
from tests.data.spoken_table import Tones

from .conftest import Mlxt
from .test_bad_input import refused
from .test_finetune import ENCODER, pretrained  # noqa: F401 - a fixture

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def encoders(mlxt: Mlxt, home: Path, pretrained: Path) -> Path:  # noqa: F811
    """Runs `masked` and `classes`."""
    assert mlxt("train", "classes", "--set", "train.ema=0.5").code == 0
    return home


def said_as_json(mlxt: Mlxt, *words: str) -> dict:
    outcome = mlxt("eval", *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_classification_agrees_with_what_training_measures(mlxt: Mlxt, encoders: Path) -> None:
    plain = said_as_json(mlxt, "classes")
    found = said_as_json(mlxt, "classes", "--task", "classification")
    scores = {score["name"]: score for score in found["scores"]}
    assert found["examples"] == plain["val_texts"]
    assert scores["accuracy"]["value"] == pytest.approx(plain["val_accuracy"])
    assert all(score["low"] <= score["value"] <= score["high"] for score in scores.values())
    some = said_as_json(mlxt, "classes", "--task", "classification", "--batches", "1")
    assert some["examples"] == 2
    lines = mlxt("eval", "classes", "--task", "classification").out.splitlines()
    assert lines[1].split()[:2] == ["accuracy", f"{scores['accuracy']['value']:.4f}"]


def test_a_loss_of_texts_is_told_as_one_and_has_no_perplexity(mlxt: Mlxt, encoders: Path) -> None:
    plain = said_as_json(mlxt, "classes")
    said = mlxt("eval", "classes").out
    assert "val_ppl" not in plain
    assert "perplexity" not in said
    assert f"{plain['val_loss']:.4f} nats per text\n" in said
    assert f"{plain['val_texts']:,.0f} texts\n" in said
    said = mlxt("eval", "masked").out
    assert "nats per token\n" in said
    assert "perplexity" in said


def test_masked_words_are_counted_where_they_are_hidden(mlxt: Mlxt, encoders: Path) -> None:
    found = measure("masked", "masked")
    _, built = open_run("masked")
    right = asked = 0.0
    for batch in validation_stream(built, None):
        logits = built.model(mx.array(batch["tokens"]))
        hit = np.array(logits.argmax(axis=-1)) == batch["targets"]
        right += float((hit * batch["weights"]).sum())
        asked += float(batch["weights"].sum())
    assert found.scores[0].value == pytest.approx(right / asked)


FOUND = """
model.head = {{ kind = "tags", n_classes = {n_classes} }}
objective.kind = "{objective}"
[data]
path = "records.jsonl"
tokenizer = {{ kind = "char" }}
batch = {{ kind = "{batch}" }}
valid_fraction = 0.4
"""


def found_in_texts(mlxt: Mlxt, home: Path, rows: list[dict], **keys: object) -> tuple[dict, dict]:
    """What evaluation measures of a run on records, and the scores of its task."""
    (home / "records.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (home / "encoder.toml").write_text(ENCODER)
    (home / "found.toml").write_text('extends = "encoder.toml"\n' + FOUND.format(**keys))
    trained = mlxt("train", "found", "--steps", "60", "--set", "optim.learning_rate=3e-2")
    assert trained.out.endswith("Continue with: mlxt eval runs/found\n")
    task = "tagging" if keys["objective"] == "tag" else "answers"
    found = said_as_json(mlxt, "found", "--task", task)
    return said_as_json(mlxt, "found"), {s["name"]: s["value"] for s in found["scores"]}


def test_words_are_tagged_and_names_found(mlxt: Mlxt, home: Path) -> None:
    kinds = {"Ann": "B-P", "Rome": "B-L", "saw": "O"}
    words = [[a, "saw", b] for a in ("Ann", "saw") for b in kinds for _ in range(6)]
    rows = [{"words": [*w, str(i)], "tags": [*map(kinds.get, w), "O"]} for i, w in enumerate(words)]
    plain, scores = found_in_texts(mlxt, home, rows, n_classes=3, objective="tag", batch="tagged")
    assert scores["accuracy"] == pytest.approx(plain["val_accuracy"], rel=1e-5)
    assert scores["name_f1"] == pytest.approx(
        2 / (1 / scores["name_precision"] + 1 / scores["name_recall"])
    )


def test_answers_are_read_from_the_text(mlxt: Mlxt, home: Path) -> None:
    rows = [
        {"question": "n?", "context": f"{'ab'[i % 2]} {i} c", "answer": str(i) * (i % 3 > 0)}
        for i in range(10, 70)
    ]
    plain, scores = found_in_texts(
        mlxt, home, rows, n_classes=2, objective="answer", batch="answers"
    )
    assert scores["f1"] >= scores["exact"] >= plain["val_accuracy"] > 0


def test_a_task_that_a_run_was_not_trained_for_is_refused(mlxt: Mlxt, encoders: Path) -> None:
    refused(
        mlxt("eval", "masked", "--task", "classification"),
        "is for runs with objective 'classify'",
        "It can be measured at: masked.",
    )
    refused(mlxt("eval", "masked", "--task", "clasification"), "Did you mean 'classification'?")
    refused(mlxt("eval", "masked", "--task", "masked", "--beams", "2"), "writes no text")
    refused(mlxt("eval", "masked", "--beams", "2"), "--beams is for --task")
    refused(mlxt("eval", "masked", "--lengths", "2"), "--lengths is for --task")


def test_targets_are_written_for_every_source_and_references_stay_whole(
    mlxt: Mlxt, home: Path
) -> None:
    words = ["one two", "two three", "three four", "four one", "two one", "one one four"]
    pairs = [{"source": w, "target": w[::-1]} for w in words for _ in range(8)]
    pairs += [
        {"source": f"{w} {i}", "target": f"{w} {i} is a long answer"}
        for i in range(9)
        for w in words
    ]
    (home / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    sets = ["data.path=pairs.jsonl", "data.tokenizer={kind='char'}", "model.dim=16"]
    sets += ["train.steps=2", "train.batch_size=4", "train.seq_len=16", "eval.batches=1"]
    recipe = str(RECIPES / "seq2seq/transformer_tiny.toml")
    assert mlxt("train", recipe, *(w for s in sets for w in ("--set", s)), "--name", "p").code == 0
    path, built = open_run("p")
    stream = validation_stream(built, None)
    texts = generate_targets(built, stream, Beams(1, alpha=0.0))
    assert len(texts) == len(stream.numbers)
    assert any(text.reference.endswith("is a long answer") for text in texts)
    sources = [
        built.tokenizer.decode(stream.rows.examples.at(int(i))[0][0])  # type: ignore[attr-defined]
        for i in stream.numbers
    ]
    for source, text in list(zip(sources, texts, strict=True))[:3]:
        assert text.generated == search("p", source, max_tokens=16, beams=Beams(1, alpha=0.0))
        assert text.source == source
    found = said_as_json(mlxt, "p", "--task", "translation", "--beams", "2")
    assert [score["name"] for score in found["scores"]] == ["bleu", "chrf"]
    assert found["checkpoint"] == str(path)
    found = said_as_json(mlxt, "p", "--task", "summarization")
    references = [text.reference for text in texts]
    scores = {score["name"]: score["value"] for score in found["scores"]}
    rouge = ["rouge1", "rouge2", "rougeL"]
    assert list(scores) == [*rouge, *(f"lead_{name}" for name in rouge)]
    n = int(np.median([len(reference.split()) for reference in references]))
    lead = summarization([" ".join(source.split()[:n]) for source in sources], references)
    assert [scores[f"lead_{score.name}"] for score in lead] == [score.value for score in lead]
    refused(mlxt("eval", "p", "--task", "translation", "--lengths", "3,3"), "each larger than")
    refused(mlxt("eval", "p", "--task", "translation", "--lengths", "short"), "e.g. 5,10,20")
    lines = mlxt("eval", "p", "--task", "translation", "--lengths", "3,4").out.splitlines()
    assert "sources of 1 to 2 words" in lines
    assert "sources of 4 or more words" in lines


def test_texts_are_scored_together_and_by_the_words_of_their_sources() -> None:
    texts = [GeneratedText("word " * words, "a" * words, "b") for words in (1, 3, 4, 4, 9)]

    def score(some: Sequence[GeneratedText]) -> list[Score]:
        return [Score("letters", float(sum(len(text.generated) for text in some)), 0.0, 0.0)]

    found = score_by_length(texts, [2, 3, 5, 20], score)
    assert (found.examples, found.scores[0].value) == (5, 21.0)
    groups = [(g.first, g.last, g.examples, g.scores[0].value) for g in found.groups]
    assert groups == [(1, 1, 1, 1.0), (3, 4, 3, 11.0), (5, 19, 1, 9.0)]
    assert score_by_length(texts, [], score).groups == []


def test_the_help_names_every_task(mlxt: Mlxt) -> None:
    assert tuple(TASKS) == MEASURED
    assert "translation" in mlxt("eval", "--help").out


@pytest.fixture
def eager() -> Iterator[None]:
    """Two steps are not worth compiling."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.mark.usefixtures("eager")
def test_contacts_are_measured_beside_mutual_information(mlxt: Mlxt, home: Path) -> None:
    small = {
        "model.n_layers": 1,
        "model.dim": 8,
        "model.max_seq_len": 60,
        "train.seq_len": 60,
        "train.batch_size": 2,
        "model.pair_dim": 8,
        "data.settings.n_examples": 20,
        "data.settings.sweeps": 2,
        "train.steps": 2,
        "optim.schedule.warmup": 0,
    }
    sets = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    outcome = mlxt("train", str(RECIPES / "protein" / "evoformer_tiny.toml"), "--name", "f", *sets)
    assert outcome.code == 0, outcome.err
    plain, found = said_as_json(mlxt, "f"), said_as_json(mlxt, "f", "--task", "contacts")
    scores = {score["name"]: score["value"] for score in found["scores"]}
    assert found["examples"] == plain["val_texts"]
    assert set(scores) == {"precision", "mi_precision"}
    assert all(0 <= value <= 1 for value in scores.values())
    assert 0 <= plain["val_precision"] <= 1


@pytest.mark.usefixtures("eager")
def test_words_are_heard_in_held_out_sounds_and_in_files(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("need_speaker", "find_speaker"):
        monkeypatch.setattr(spoken, name, Tones)
    small = {
        "model.encoder.n_layers": 1,
        "model.decoder.n_layers": 1,
        "model.dim": 16,
        "data.settings.n_examples": 24,
        "data.valid_fraction": 0.4,
        "train.steps": 2,
        "optim.schedule.warmup": 0,
    }
    sets = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    outcome = mlxt("train", str(RECIPES / "speech" / "whisper_tiny.toml"), "--name", "h", *sets)
    assert outcome.code == 0, outcome.err
    scores = {s["name"]: s for s in said_as_json(mlxt, "h", "--task", "transcription")["scores"]}
    assert set(scores) == {"word_error_rate", "exact"}
    file = home / "said.wav"
    file.write_bytes(wav_bytes(Tones().say("one two", "voice 1", 150)))
    listened = ("transcribe", "h", "--audio", str(file))
    assert json.loads(mlxt(*listened, "--json").out)["audio"] == str(file)
    refused(mlxt("transcribe", "h"), "No sound is given")
    file.write_bytes(b"ID3")
    refused(mlxt(*listened), "is no WAV file")
