"""The language model of a model that also sees is imported alone, and equals its own family."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.assembly.adapted import read_adapter
from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.text_part import text_part
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.verbs.import_run import import_run

from .published import write

LAYOUTS = {
    "smolvlm": ("model.text_model.", "lm_head.", "model.vision_model.patches.weight"),
    "mistral3": ("language_model.model.", "language_model.lm_head.", "vision_tower.norm.weight"),
    "llama4": ("language_model.model.", "language_model.lm_head.", "vision_model.class_embedding"),
    "qwen2_5_vl": ("model.language_model.", "lm_head.", "model.visual.patches.weight"),
    "qwen2_vl": ("model.", "lm_head.", "visual.patches.weight"),
}
"""How the files of a model that sees begin the names of its language model and of its head, and a
tensor of its tower."""
FAMILY = {"smolvlm": "llama", "mistral3": "mistral", "qwen2_5_vl": "qwen2", "qwen2_vl": "qwen2"}
FAMILY |= {"llama4": "llama4_text"}


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
    assert any("left out: 1 (model.vision_model)." in line for line in said)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_config_without_text_config_is_one_of_the_usual_family(kind: str, tmp_path: Path) -> None:
    plain, whole = seeing(tmp_path, kind)
    config = json.loads((plain / "config.json").read_text()) | {"model_type": kind}
    (whole / "config.json").write_text(json.dumps(config))
    assert read_published(whole, text_only=True).family.name == FAMILY[kind]
    (whole / "config.json").write_text(json.dumps(config | {"text_config": "x"}))
    with pytest.raises(ConvertError, match="text_config = 'x' has to be a table"):
        read_published(whole, text_only=True)


def test_a_kind_of_qwen_that_sees_keeps_its_own_defaults() -> None:
    names = {"model.norm.weight": 0}
    for kind, base in (("qwen2_vl", 1e6), ("qwen2_5_vl", 1e6), ("qwen3_vl", 5e5)):
        for config in ({}, {"text_config": {"hidden_size": 32}}):
            part, *_ = text_part(HfConfig({"model_type": kind, **config}), names)
            assert part.data["rope_theta"] == base
            assert part.model_type == kind.partition("_")[0]


@pytest.mark.parametrize("head", ["lm_head.qweight", "language_model.lm_head.scales"])
def test_a_head_whose_numbers_are_packed_is_not_tied(head: str) -> None:
    names = {"language_model.model.norm.weight": 0}
    config = HfConfig({"model_type": "llava", "text_config": {}})
    assert text_part(config, names)[0].data["tie_word_embeddings"]
    assert not text_part(config, names | {head: 0})[0].data["tie_word_embeddings"]


@pytest.mark.parametrize("inner", ["model.", "model.language_model.", "language_model.model."])
def test_an_adapter_of_the_whole_model_fits_its_language_model(inner: str, tmp_path: Path) -> None:
    _, whole = seeing(tmp_path, "qwen2_5_vl")
    a, b = mx.ones((2, 32)), mx.ones((16, 2))
    adapter, name = tmp_path / "adapter", f"{inner}layers.1.self_attn.k_proj"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "alpha_pattern": {name: 8}})
    )
    tensors = {f"base_model.model.{name}.lora_{x}.weight": y for x, y in (("A", a), ("B", b))}
    mx.save_safetensors(str(adapter / "adapter_model.safetensors"), tensors)
    found = read_adapter(read_published(whole, text_only=True), adapter)
    assert len(found.table["targets"]) == 1
    assert found.table["alpha"] == 8
    assert found.base.left_out


def test_a_model_without_a_tower_has_no_text_part(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="'llama' is none of those"):
        read_published(write(tmp_path / "plain", "llama"), text_only=True)
