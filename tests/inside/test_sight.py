"""A look at a model of pictures: what its patches read, its page, and what it refuses."""

import base64
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from browser import BROWSER, PHONE, asked_all
from contract.depths import UNIVERSAL
from contract.mixers import MAMBA
from contract.models import CLIP, LLAMA, VIT

from mlx_transformers.core.errors import RunError
from mlx_transformers.data.batches.pairs import Pairs
from mlx_transformers.data.pictures.preprocess import read_resized
from mlx_transformers.data.pictures.read import write_picture
from mlx_transformers.inside.packing import unpack
from mlx_transformers.inside.sight import look_at, mean_distance
from mlx_transformers.inside.sight_page import write_sight
from mlx_transformers.verbs import look as verb

from .test_look import WORDS, built

SEES = VIT | {
    "embed": VIT["embed"] | {"class_token": True},
    "position": {"kind": "none"},
    "pool": {"kind": "classifier", "n_classes": 7},
}
VECTORS = {"kind": "word_vectors", "dim": 6}
HOSTILE = "</script><script>console.error('in')</script>"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "a.png"
    write_picture(file, np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    return file


def test_layers_show_what_patches_read_and_the_class_that_they_see(image: Path) -> None:
    model = built(SEES)
    seen = look_at(model, image)
    rows, columns = seen.grid
    for layer in seen.layers:
        assert layer.weights is not None
        assert layer.weights.shape[1:] == (len(seen.front) + rows * columns,) * 2
        np.testing.assert_allclose(layer.weights.sum(axis=-1), 1.0, rtol=1e-5)
        assert len(layer.stream) == layer.weights.shape[1]
    channels = seen.pixels.shape[-1]
    pixels = mx.array(read_resized(image, model.image_size, channels).astype(np.int32))[None]
    odds = np.array(mx.softmax(model(pixels)[0]))
    last = seen.layers[-1]
    assert last.classes is not None
    assert last.classes == list(np.argsort(-odds)[:5])
    np.testing.assert_allclose(last.probability, odds[last.classes], rtol=1e-4)
    assert look_at(built(CLIP).vision, image).layers[0].classes is None


def test_the_distance_of_a_head_is_that_of_its_patches_in_pixels() -> None:
    right = np.eye(6)[[1, 2, 2, 4, 5, 5]]  # each of 2 x 3 patches reads its neighbour, or itself
    front = np.zeros((7, 7))
    front[1:, 1:], front[0, 3] = right, 1.0
    weights = np.stack([np.eye(7), front])
    np.testing.assert_allclose(mean_distance(weights, (2, 3), 8), [0.0, 8 * 4 / 6])


def test_the_data_beside_the_page_are_the_arrays(image: Path, tmp_path: Path) -> None:
    seen = look_at(built(SEES), image)
    page, beside = write_sight("a", seen, "mlxt look", tmp_path / "a.html")
    data = json.loads(beside.read_text())["sight"]
    np.testing.assert_allclose(data["layers"][0]["weights"], seen.layers[0].weights, rtol=1e-4)
    assert base64.b64decode(data["pixels"]["data"]) == seen.pixels.tobytes()
    text = page.read_text().split('id="data">')[1].split("</script>")[0]
    packed = json.loads(text)["sight"]["layers"][0]["weights"]
    np.testing.assert_allclose(unpack(packed), seen.layers[0].weights, atol=0.01)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Give one with --image"),
        ({"text": "a"}, "leave --prompt, .* out"),
        ({"edit": ""}, "leave --prompt, .* out"),
        ({"target": ""}, "leave --prompt, .* out"),
    ],
)
def test_a_model_of_pictures_is_looked_at_with_a_picture_alone(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = verb.Opened("a", built(VIT), WORDS, Pairs())
    monkeypatch.setattr(verb, "_open", lambda run, root: opened)
    with pytest.raises(RunError, match=words):
        verb.look_page(None, **({"text": None, "out": tmp_path / "a.html"} | given))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": None}, r"^Give a text with --prompt TEXT\.$"),
        ({"text": "a", "edit": "a"}, "--edit is the same text as --prompt"),
        ({"text": "a", "against": "sees"}, "^--against sees reads pictures"),
        ({"text": "a", "against": "vectors"}, "^--against vectors: .* is a table of word vectors"),
    ],
)
def test_a_model_of_text_needs_a_text_and_another_model_of_text(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"reads": LLAMA, "sees": VIT, "vectors": VECTORS}
    monkeypatch.setattr(
        verb, "_open", lambda run, root: verb.Opened(run, built(models[run]), WORDS, Pairs())
    )
    with pytest.raises(RunError, match=words):
        verb.look_page("reads", out=tmp_path / "a.html", **given)


def test_a_routed_layer_has_no_matrix_of_all_patches(image: Path, tmp_path: Path) -> None:
    block = SEES["block"] | {"route": {"capacity": 0.5}}
    seen = look_at(built(SEES | {"block": block}), image)
    for layer in seen.layers:
        assert layer.weights is None
        assert layer.distance is None
        assert layer.classes is not None
    write_sight("a", seen, "mlxt look", tmp_path / "a.html")


def test_a_mixer_without_attention_shows_the_matrix_that_it_implies(image: Path) -> None:
    layer = look_at(built(SEES | {"block": SEES["block"] | {"mixer": MAMBA}}), image).layers[0]
    assert layer.kind == "implied"
    assert layer.weights is not None
    assert np.abs(np.triu(layer.weights, 1)).max() < 1e-6  # a scan reads no later vector
    assert layer.distance is not None
    assert (layer.distance > 0).all()


def test_a_look_says_whether_the_answer_is_the_last_layers(image: Path) -> None:
    assert not look_at(built(SEES), image).halts
    assert look_at(built(SEES | {"depth": UNIVERSAL}), image).halts


CHOSEN = """(async () => {
    const d = f.contentDocument
    while (!d.body.dataset.ready) await new Promise(done => setTimeout(done, 50))
    const title = () => d.querySelector("#at-attention h3").textContent
    const before = title()
    d.querySelector("#at-attention .map").focus()
    d.activeElement.dispatchEvent(
        new f.contentWindow.KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}))
    d.querySelector("button.head").click()
    const marked = d.querySelectorAll("button[aria-current]").length
    return [d.documentElement.scrollWidth, before, title(), marked].join("|")
})()"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_the_patch_that_is_chosen_by_a_key(image: Path, tmp_path: Path) -> None:
    seen = look_at(built(SEES), image)
    page, _ = write_sight(HOSTILE, seen, HOSTILE, tmp_path / "a.html")
    (found,), said = asked_all([(page, CHOSEN)])
    assert said == []
    width, before, after, marked = found.split("|")
    assert int(width) <= PHONE
    assert before.endswith("what the class token reads")
    assert after == "Layer 1, head 1: what the patch in row 1, column 2 reads"
    assert marked == "1"
