"""The language model of a model that also sees is imported alone, and equals its own family."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.verbs.import_run import import_run

from .published import write

LAYOUTS = {
    "smolvlm": ("model.text_model.", "lm_head.", "model.vision_model.patches.weight"),
    "mistral3": ("language_model.model.", "language_model.lm_head.", "vision_tower.norm.weight"),
    "qwen2_5_vl": ("model.language_model.", "lm_head.", "model.visual.patches.weight"),
    "qwen2_vl": ("model.", "lm_head.", "visual.patches.weight"),
}
"""How the files of a model that sees begin the names of its language model and of its head, and a
tensor of its tower."""
FAMILY = {"smolvlm": "llama", "mistral3": "mistral", "qwen2_5_vl": "qwen2", "qwen2_vl": "qwen2"}


def seeing(folder: Path, kind: str) -> tuple[Path, Path]:
    """A language model's own folder, and one where a tower goes with it."""
    plain, whole = write(folder / "plain", FAMILY[kind]), folder / "whole"
    whole.mkdir()
    inner, head, tower = LAYOUTS[kind]
    tensors = {tower: mx.ones((3, 2))}
    for name, x in read_tensors(plain).items():
        new = name.replace("model.", inner, 1) if name.startswith("model.") else name
        tensors[new.replace("lm_head.", head, 1)] = x
    write_tensors(whole, tensors)
    config = json.loads((plain / "config.json").read_text())
    if kind == "qwen2_vl":  # all keys in one table
        mixed = {"type": "mrope", "mrope_section": [1, 1, 2]}
        outer = {**config, "vision_config": {"depth": 2}, "rope_scaling": mixed}
    else:
        outer = {"text_config": config, "vision_config": {"depth": 2}}
    (whole / "config.json").write_text(json.dumps({**outer, "model_type": kind}))
    return plain, whole


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_language_model_alone_gives_the_logits_of_its_family(kind: str, tmp_path: Path) -> None:
    plain, whole = seeing(tmp_path, kind)
    tokens = mx.arange(10)[None]
    one, two = read_published(plain), read_published(whole, text_only=True)
    assert two.family.name == FAMILY[kind]
    assert mx.array_equal(one.model(tokens), two.model(tokens))
    assert two.left_out == (LAYOUTS[kind][2],)


def test_import_names_the_option_and_says_what_it_left_out(tmp_path: Path) -> None:
    _, whole = seeing(tmp_path, "smolvlm")
    with pytest.raises(ConvertError, match="--text-only"):
        import_run(whole, "seen", tmp_path / "runs")
    said: list[str] = []
    import_run(whole, "seen", tmp_path / "runs", say=said.append, text_only=True)
    assert any("left out: 1 " in line and "model.vision_model" in line for line in said)


def test_a_model_without_a_tower_has_no_text_part(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="'llama' is none of those"):
        read_published(write(tmp_path / "plain", "llama"), text_only=True)
