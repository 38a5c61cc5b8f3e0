"""The page of a look: its files, and what a real browser makes of it."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import BROWSER, PHONE, asked_all
from contract.recurrent import BAHDANAU

from mlx_transformers.core.errors import RunError
from mlx_transformers.data.tokenizers.words import WordTokenizer
from mlx_transformers.inside.compare import compare
from mlx_transformers.inside.look import Look, look, look_into
from mlx_transformers.inside.page import Pictures, write
from mlx_transformers.inside.patching import patch
from mlx_transformers.inside.reading import read
from mlx_transformers.report.history import write_history

from .test_look import LLAMA, built

HOSTILE = ["</script><script>console.error('in')</script>", "<img/src=x/onerror=alert(1)>", "&amp;"]
WORDS = WordTokenizer(["<unk>", *HOSTILE, *"abcde"])


@pytest.fixture(scope="module")
def both() -> Pictures:
    """Two texts of tokens that would be HTML, side by side."""
    texts = [f"a b {word} c a b" for word in HOSTILE[:2]]
    readings = [read(built(LLAMA), WORDS, text) for text in texts]
    looks = [look_into(reading) for reading in readings]
    named = list(zip(HOSTILE[:2], looks, strict=True))
    long = "mlxt look <b> --prompt " + "long" * 30
    return Pictures(texts[0], long, named, compare(*looks), patch(*readings))


def test_the_data_beside_the_page_are_the_arrays(both: Pictures, tmp_path: Path) -> None:
    page, beside = write(both, tmp_path / "a.html")
    data = json.loads(beside.read_text())
    seen: Look = both.looks[0][1]
    found = data["looks"][0]["look"]
    assert found["tokens"] == seen.tokens
    for layer, own in zip(found["layers"], seen.layers, strict=True):
        np.testing.assert_allclose(layer["weights"], own.weights, rtol=1e-4, atol=1e-6)
    assert found["predictions"]["probability"][0] is None
    assert "src=" not in re.sub(r"<script type.*?</script>", "", page.read_text(), flags=re.DOTALL)
    write(both, page)  # over an earlier look
    beside.write_text('{"mine": 1}')
    with pytest.raises(RunError, match="not the data of a look"):
        write(both, page)
    with pytest.raises(RunError, match=r"\.html"):
        write(both, tmp_path / "a.png")


def test_half_a_character_of_a_terminal_is_written_as_its_escape(
    both: Pictures, tmp_path: Path
) -> None:
    page, beside = write(dataclasses.replace(both, text="a \udcff"), tmp_path / "a.html")
    assert json.loads(beside.read_text(encoding="utf-8"))["text"] == "a \udcff"
    assert "a \\udcff" in page.read_text(encoding="utf-8")


LOOKED = """(async () => {
    const d = f.contentDocument, press = key => d.activeElement.dispatchEvent(
        new f.contentWindow.KeyboardEvent("keydown", {key, bubbles: true}))
    await new Promise(done => setTimeout(done, 500))
    d.querySelector("#at-text .strip button[tabindex='0']").focus()
    press("ArrowLeft")
    const token = d.activeElement.getAttribute("aria-label")
    d.querySelector("#at-patching .map").focus()
    press("ArrowRight")
    const cell = d.querySelector("#at-patching .said").textContent
    const shown = [...d.querySelectorAll("section:not([hidden])")].map(s => s.id)
    const head = d.querySelector("#at-attention h3").textContent
    return [d.documentElement.scrollWidth, token, cell, head, shown.join(" ")].join("|")
})()"""
HISTORY = """(() => {
    const d = f.contentDocument, mark = () => d.querySelector("button[aria-current]").textContent
    const first = mark()
    d.querySelector("button[aria-current]").dispatchEvent(
        new f.contentWindow.KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}))
    const text = d.querySelector("#at-recipe h3").textContent
    return [d.documentElement.scrollWidth, first, mark(), text].join("|")
})()"""

ALIGNED = "f.contentDocument.querySelector('#attention:not([hidden]) figcaption')?.textContent"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_every_section_on_a_phone_and_runs_no_token(
    both: Pictures, tmp_path: Path
) -> None:
    page, _ = write(both, tmp_path / "a.html")
    past = write_history(tmp_path / "history.html")
    seen = look(built(BAHDANAU), WORDS, "a b c", target="d e")
    aligned, _ = write(Pictures("a b c", "", [("pairs", seen)]), tmp_path / "b.html")
    asking = [(page, LOOKED), (past, HISTORY), (aligned, ALIGNED)]
    (looked, history, alignment), said = asked_all(asking)
    assert said == []
    assert alignment == "alignment: each position of the target over the source"
    width, token, cell, head, shown = looked.split("|")
    assert int(width) <= PHONE
    assert token.startswith("token 5")
    assert "(1):" in cell
    assert "head" in head
    assert {"compare", "text", "attention", "lens", "patching", "embedding"} <= set(shown.split())
    width, *marked, title = history.split("|")
    assert int(width) <= PHONE
    assert marked == ["mistral", "llama"]
    assert title.startswith("llama_tiny")


def test_the_face_of_the_package_is_the_function() -> None:
    import mlx_transformers

    assert mlx_transformers.look is look
