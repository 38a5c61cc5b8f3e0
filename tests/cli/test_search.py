"""`mlxt generate` where nothing is drawn: beams, encoder-decoders, encoders."""

import json
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
import tokenizers
from contract.models import T5
from contract.suite import VOCAB, parse

from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import RunError
from mlx_transformers.data.tokenizers.numbers import NumberTokenizer
from mlx_transformers.decode.beam import Beams
from mlx_transformers.verbs.search import align, reads_source, search, with_ends
from mlx_transformers.verbs.train import train

from .conftest import Mlxt

SMALL = ["train.steps=2", "train.batch_size=2", "train.seq_len=16", "eval.batches=1"]
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs, and a run of an encoder-decoder that reads them."""
    folder = tmp_path_factory.mktemp("search")
    words = ["one two", "two three", "three four", "four one", "two one", "one one four"]
    pairs = [{"source": w, "target": w[::-1]} for w in words for _ in range(8)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    sets = [f"data.path={folder}/pairs.jsonl", "model.dim=16", "model.max_seq_len=24"]
    tokenizer = ["data.tokenizer={kind='char'}"]
    recipe = RECIPES / "seq2seq/transformer_tiny.toml"
    train(load_recipe(recipe, [*SMALL, *sets, *tokenizer]), name="pair", root=folder / "runs")
    return folder


def test_an_encoder_decoder_writes_beside_its_source(place: Path) -> None:
    run = place / "runs/pair"
    model, _ = load(run)
    assert reads_source(model)
    for beams in (1, 3):
        said = search(run, "two one", max_tokens=6, beams=Beams(beams))
        assert len(said) <= 6
        assert said == search(run, "two one", max_tokens=6, beams=Beams(beams))


def test_a_source_that_is_too_long_is_an_error(place: Path) -> None:
    with pytest.raises(RunError, match="the model reads 24 at most"):
        search(place / "runs/pair", "one " * 20, max_tokens=5, beams=Beams(1))


def test_an_alignment_shows_where_each_token_looked_in_the_order_of_the_text(
    place: Path, tmp_path: Path
) -> None:
    sets = [f"data.path={place}/pairs.jsonl", "model.dim=8", "data.batch.reverse_source=true"]
    recipe = load_recipe(RECIPES / "seq2seq/bahdanau_tiny.toml", [*SMALL, *sets])
    run = train(recipe, name="looks", root=tmp_path).folder.path
    said, looked = align(run, "one two", max_tokens=5, beams=Beams(1))
    assert said == search(run, "one two", max_tokens=5, beams=Beams(1))
    assert "".join(looked.source) == "onetwo[end]"
    assert "".join(looked.target).removesuffix("[end]") == said.replace(" ", "")
    model, tokenizer = load(run)
    read = [tokenizer.control("start"), *tokenizer.encode(said)]
    source = [*tokenizer.encode("owt eno"), tokenizer.control("end")]
    plain = np.array(model.alignment(mx.array([source]), mx.array([read]))[0])
    plain = np.concatenate([plain[:, -2::-1], plain[:, -1:]], axis=1)
    assert np.array(looked.weights) == pytest.approx(plain[: len(looked.target)], abs=1e-6)
    assert plain.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_transformer_has_an_alignment_and_a_model_without_a_source_has_none(place: Path) -> None:
    said, looked = align(place / "runs/pair", "one two", max_tokens=5, beams=Beams(1))
    assert said == search(place / "runs/pair", "one two", max_tokens=5, beams=Beams(1))
    assert np.array(looked.weights).shape == (len(looked.target), len(looked.source))
    loaded = (SimpleNamespace(tasks=frozenset({"causal_lm"})), object())
    with pytest.raises(RunError, match="no alignment to show"):
        align(None, "one two", max_tokens=5, beams=Beams(1), loaded=loaded)  # type: ignore[arg-type]


def test_the_verb_draws_an_alignment_once(place: Path, tmp_path: Path, mlxt: Mlxt) -> None:
    run, picture = place / "runs/pair", tmp_path / "looked.svg"
    words = ("generate", "--run", str(run), "--prompt", "one two", "--max-tokens", "5")
    done = mlxt(*words, "--alignment", str(picture))
    assert done.out.rstrip("\n") == search(run, "one two", max_tokens=5, beams=Beams(1))
    drawn = picture.read_bytes()
    assert b"<svg" in drawn
    for file, cure in (
        ("looked.svg", "exists already"),
        ("looked.pdf", "end the name with .svg or .png"),
        ("nowhere/looked.svg", "Make it first"),
    ):
        refused = mlxt(*words, "--alignment", str(tmp_path / file))
        assert refused.code == 1
        assert cure in " ".join(refused.err.split())
    assert picture.read_bytes() == drawn


def test_a_decoder_has_no_alignment_to_draw(mlxt: Mlxt, home: Path) -> None:
    assert mlxt("train", "tiny").code == 0
    for more in ((), ("--beams", "2")):
        done = mlxt("generate", "--prompt", "a", "--alignment", "a.png", *more)
        assert done.code == 1
        assert "which have a source: leave it out" in " ".join(done.err.split())


def test_an_encoder_writes_nothing(place: Path) -> None:
    loaded = (SimpleNamespace(tasks=frozenset({"encode"})), object())
    with pytest.raises(RunError, match="is an encoder"):
        search(None, "x", max_tokens=5, beams=Beams(1), loaded=loaded)  # type: ignore[arg-type]


def test_a_vocabulary_without_ends_of_targets_is_an_error(tmp_path: Path) -> None:
    model = parse("model", T5).build(VOCAB)
    with pytest.raises(RunError, match="no token that begins or ends a target"):
        with_ends(NumberTokenizer(VOCAB), "start", model)
    words = {f"w{i}": i for i in range(VOCAB - 2)} | {"</s>": VOCAB - 2, "<pad>": VOCAB - 1}
    file = tmp_path / "tokenizer.json"
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    made.save(str(file))
    kind = {"kind": "tokenizer_json", "path": str(file), "eos": "</s>"}
    ready = with_ends(parse("tokenizer", kind).build([]), "pad", model)
    assert (ready.control("pad"), ready.control("end")) == (VOCAB - 1, VOCAB - 2)
