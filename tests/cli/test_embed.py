"""`mlxt embed` and `mlxt finetune --task`: what an imported encoder is good for."""

import json
from pathlib import Path

import numpy as np
import pytest
from convert.published import CONFIGS, write
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import typed_model
from mlx_transformers.convert.checkpoint import write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.registry import family_of
from mlx_transformers.convert.weights import to_theirs

from .conftest import Mlxt
from .test_bad_input import refused

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]


@pytest.fixture
def bert(home: Path) -> Path:
    """A published folder of a tiny BERT with a vocabulary of letters."""
    folder = home / "bert"
    folder.mkdir()
    config = HfConfig(BERT)
    table, weights = read(family_of(config), config)
    model = typed_model(table, "bert").build(30)
    ours = {name: array + 0.1 for name, array in tree_flatten(model.parameters())}
    write_tensors(folder, to_theirs(weights, ours))
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def test_an_imported_encoder_gives_vectors(mlxt: Mlxt, home: Path, bert: Path) -> None:
    outcome = mlxt("import", "bert")
    assert outcome.code == 0
    assert 'mlxt embed runs/bert --text "..."' in outcome.out
    (home / "texts.txt").write_text("a b c\n\nd e\n")
    out = home / "v.npy"
    assert (
        mlxt("embed", "bert", "--texts", "texts.txt", "--text", "a b c", "--out", "v.npy").code == 0
    )
    vectors = np.load(out)
    assert vectors.shape == (3, 16)
    # padding of a shorter text in the batch changes nothing
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)
    for pool in ("first", "mean", "last"):
        found = json.loads(mlxt("embed", "bert", "--text", "a", "--pool", pool, "--json").out)
        assert found["cosines"] == [[pytest.approx(1.0, abs=1e-5)]]
    assert mlxt("embed", "bert", "--text", "a", "--out", "v.jsonl").code == 0
    row = json.loads((home / "v.jsonl").read_text())
    assert (row["text"], len(row["vector"])) == ("a", 16)
    refused(mlxt("embed", "bert", "--text", "a", "--out", "v.npy"), "exists already")
    refused(mlxt("embed", "bert", "--text", "a", "--out", "w.npy", "--json"), "give one of them")
    refused(mlxt("embed", "bert", "--text", "a", "--pool", "own"), "no sentence pool")
    refused(mlxt("embed", "bert", "--text", "a", "--pool", "men"), "Did you mean 'mean'")


def test_decoders_give_vectors_too(mlxt: Mlxt, home: Path) -> None:
    write(home / "llama", "llama")
    assert mlxt("import", "llama").code == 0
    found = json.loads(mlxt("embed", "llama", "--text", "ab", "--text", "zz y", "--json").out)
    vectors = np.array(found["vectors"])
    assert vectors.shape == (2, CONFIGS["llama"]["hidden_size"])
    assert found["cosines"][0][1] == pytest.approx(
        vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]), abs=1e-5
    )
    refused(mlxt("embed", "llama", "--text", ""), "no token")


def test_a_recipe_is_written_for_a_task_and_its_data(mlxt: Mlxt, home: Path, bert: Path) -> None:
    letters = "abcdefghijklmn"
    rows = [{"text": f"{a} {b}", "label": i % 3} for i, a in enumerate(letters) for b in "uvw"]
    (home / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    verb = ["finetune", "bert", "--task", "classification", "--data", "x.jsonl"]
    outcome = mlxt(*verb, "--steps", "2", "--name", "c")
    assert outcome.code == 0
    recipe = (home / "x-classification.toml").read_text()
    assert "n_classes = 3" in recipe
    assert "Newly initialised: pool." in outcome.out
    assert mlxt("eval", "c", "--task", "classification").code == 0
    assert mlxt(*verb, "--steps", "2", "--name", "d").code == 0
    assert [p.name for p in home.glob("x-*.toml")] == ["x-classification.toml"]
    (home / "x-classification.toml").write_text("# mine\n" + recipe)
    assert mlxt(*verb, "--steps", "2", "--name", "e").code == 0
    assert (home / "x-classification.toml").read_text().startswith("# mine")
    assert (home / "x-classification-2.toml").read_text() == recipe
    assert mlxt(*verb[:-1], "*.jsonl", "--steps", "2", "--name", "f").code == 0
    assert (home / "data-classification.toml").exists()


def test_tasks_that_a_model_can_not_learn_are_refused(mlxt: Mlxt, home: Path, bert: Path) -> None:
    (home / "x.jsonl").write_text('{"text": "a", "label": 1}')
    write(home / "llama", "llama")
    verb = ["--data", "x.jsonl", "--task"]
    refused(mlxt("finetune", "llama", *verb, "classification"), "whose tasks are text")
    refused(mlxt("finetune", "bert", *verb, "taging"), "Did you mean 'tagging'")
    refused(mlxt("finetune", "bert"), "--data FILE")
    refused(mlxt("finetune", "bert", "bert_tiny", *verb, "masked"), "not both")
