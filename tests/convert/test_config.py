"""No option of a config that has an effect is passed over."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly.published import published, read_published, typed_model
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import Family, read
from mlx_transformers.convert.registry import FAMILIES, family_of
from mlx_transformers.convert.rope import rope
from mlx_transformers.core.errors import ConvertError, MlxtError

from .published import write

LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 101,
}

HUB: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "hub_configs.json").read_text("utf-8")
)
"""`config.json` as published on the Hub, with the keys that no code reads."""
UNKNOWN = {"is_llama_config", "rope_interleaved", "use_mrope", "unsloth_fixed"}
"""Keys in `HUB` that the reference doesn't know."""
SAID = {"big_bird": {"attention_type": "original_full"}}
"""What has to be said of families whose default is not built."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_key_that_the_reference_does_not_know_is_reported(family: Family) -> None:
    said = SAID.get(family.name, {})
    config = HfConfig({"model_type": family.name, "use_wormholes": True, **said})
    read(family, config)
    assert config.passed_over() == ["use_wormholes"]


@pytest.mark.parametrize("name", sorted(HUB))
def test_published_configs_open(name: str) -> None:
    config = HfConfig(HUB[name])
    table, _ = read(family_of(config), config)
    assert table["vocab_size"] == HUB[name]["vocab_size"]
    assert {*config.passed_over()} <= UNKNOWN


def test_keys_without_effect_or_value_are_accepted() -> None:
    said = {"torch_dtype": "float16", "use_cache": False, "eos_token_id": [1, 2], "novelty": None}
    config = HfConfig(LLAMA | said)
    read(family_of(config), config)
    assert config.passed_over() == []


@pytest.mark.parametrize("name", ["gpt2", "bloom", "falcon"])
def test_dropout_of_a_classifier_has_no_effect_on_a_language_model(name: str) -> None:
    config = HfConfig({"model_type": name, "classifier_dropout": 0.3})
    read(family_of(config), config)
    assert config.passed_over() == []


def test_two_names_of_one_key_have_to_agree() -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 32, "n_head": 4}
    same, other = HfConfig(gpt2 | {"hidden_size": 32}), HfConfig(gpt2 | {"hidden_size": 64})
    alias = HfConfig({"model_type": "gpt2", "hidden_size": 32, "n_head": 4})
    assert read(family_of(same), same) == read(family_of(alias), alias)
    with pytest.raises(ConvertError, match="hidden_size = 64"):
        read(family_of(other), other)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "wavy"}}, "rope_type 'wavy'"),
        ({"rope_parameters": {"rope_theta": 1e4, "mrope_section": [8, 12]}}, "mrope_section"),
        ({"is_decoder": True}, "is_decoder = true"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide' is text and has to be like 4096"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"model_type": "mamba", "hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"model_type": "jamba", "hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"hidden_act": "sillu"}, "Did you mean 'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_is_not_built_is_refused_by_name(more, said) -> None:  # type: ignore[no-untyped-def]
    config = HfConfig(LLAMA | more)
    with pytest.raises(ConvertError, match=said):
        read(family_of(config), config)


SCALED = {
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": {"short_factor": [1.0] * 64, "long_factor": [1.0] * 64},
}
"""By kind of rotary scaling, the keys without which transformers refuses it."""


@pytest.mark.parametrize("table", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in SCALED for key in SCALED[kind]])
def test_a_scaling_without_a_key_that_it_needs_is_refused(kind: str, key: str, table: str) -> None:
    whole = HfConfig(LLAMA | {table: {"rope_type": kind, **SCALED[kind]}})
    read(family_of(whole), whole)
    part = HfConfig(LLAMA | {table: {k: v for k, v in whole.data[table].items() if k != key}})
    with pytest.raises(ConvertError, match=f"{table} lacks '{key}', which the scaling '{kind}'"):
        read(family_of(part), part)


@pytest.mark.parametrize("name", ["exaone4", "exaone_moe"])
def test_layer_types_go_before_a_pattern_in_words(name: str) -> None:
    types = ["sliding_attention"] * 3 + ["full_attention"]
    said = {"model_type": name, "num_hidden_layers": 4, "sliding_window": 8}
    known = HfConfig(said | {"layer_types": types})
    worded = HfConfig(said | {"layer_types": types, "sliding_window_pattern": "LLLG"})
    assert read(family_of(worded), worded) == read(family_of(known), known)
    with pytest.raises(ConvertError, match="sliding_window_pattern"):
        read(family_of(known), HfConfig(said | {"sliding_window_pattern": "LLLG"}))


def test_a_window_on_what_is_written_is_none_on_the_source() -> None:
    sides = {
        side: {
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention"] * 2,
            "sliding_window": 8,
        }
        for side in ("encoder", "decoder")
    }
    config = HfConfig({"model_type": "t5gemma", **sides})
    table, _ = read(family_of(config), config)
    block = typed_model(table, "here").decoder.block
    assert block.mixer.window == 8
    assert not hasattr(block.cross, "window")


def test_an_unknown_family_gets_the_nearest() -> None:
    with pytest.raises(ConvertError, match="Did you mean 'mixtral'"):
        family_of(HfConfig({"model_type": "mixtrall"}))


def llama(keys: dict[str, Any]) -> HfConfig:
    return HfConfig({"model_type": "llama", **keys})


def test_rope_in_both_dialects_is_one_table() -> None:
    newer = {"rope_parameters": {"rope_theta": 5e3, "partial_rotary_factor": 0.5}}
    older = {"rope_theta": 5e3, "rope_scaling": None, "partial_rotary_factor": 0.5}
    own = {"rotary_emb_base": 5e3, "rotary_pct": 0.5}
    want = {"kind": "rope", "theta": 5e3, "fraction": 0.5}
    assert rope(llama(newer), partial=True) == rope(llama(older), partial=True) == want
    keys = {"theta_key": "rotary_emb_base", "fraction_key": "rotary_pct"}
    found = rope(llama(own), partial=True, **keys)
    assert found == want


def test_a_base_beside_no_scaling_is_that_of_the_scaling_of_the_class() -> None:
    config = HfConfig({"model_type": "gpt_oss", "rope_theta": 5e2, "rope_scaling": None})
    position = read(family_of(config), config)[0]["position"]
    assert position["theta"] == 5e2
    assert position["scaling"]["kind"] == "yarn"


@pytest.mark.parametrize("tied", [True, False])
def test_an_esm_has_its_bias_outside_of_the_decoder(tied: bool) -> None:
    config = HfConfig({"model_type": "esm", "tie_word_embeddings": tied})
    names = {row.ours: row.theirs for row in read(family_of(config), config)[1]}
    assert names["head.bias"] == "lm_head.bias"


def test_rope_by_layer_type() -> None:
    both = {"full": {"rope_theta": 1e6, "rope_type": "default"}, "sliding": {"rope_theta": 1e4}}
    config = llama({"rope_parameters": both})
    assert rope(config, layer="full")["theta"] == 1e6
    assert rope(config, layer="sliding")["theta"] == 1e4


def test_infinity_is_read_as_transformers_spells_it() -> None:
    assert HfConfig({"limit": [0.0, {"__float__": "Infinity"}]}).get("limit") == [0.0, float("inf")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 10**12}, "vocab_size = 1,000,000,000,000 is beyond"),
        ({"hidden_size": 10**400}, "hidden_size = a number of more than 20 digits"),
        (
            {"num_hidden_layers": 10**6},
            "num_hidden_layers = 1,000,000 is beyond the limit of 16,384",
        ),
        ({"num_attention_heads": 10**9}, "num_attention_heads"),
        ({"rope_parameters": {"rope_theta": 1e4, "factor": 2**40}}, "factor"),
        ({"vocab_size": None}, "vocab_size = None"),
        (
            {"vocab_size": 2 * 10**9},
            "vocab_size = 2000000000 doesn't belong to a file with 288 num",
        ),
        ({"num_hidden_layers": 16_000}, "16,000 layers don't fit 2 tensors"),
    ],
)
def test_sizes_of_no_model_are_refused_before_anything_is_built(
    change: dict[str, Any], said: str
) -> None:
    tensors = {f"{i}.weight": mx.ones((3, 48)) for i in range(2)}
    with pytest.raises(ConvertError, match=said):
        published(HfConfig(LLAMA | change), tensors, "here")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "model", "gpt2")
    tensors = read_tensors(source)
    name = next(name for name in tensors if name.endswith("wte.weight"))
    tensors[name] = tensors[name].at[3, 5].add(mx.nan)
    mx.eval(tensors[name])
    write_tensors(source, tensors)
    with pytest.raises(ConvertError, match="holds NaN or infinity in embed"):
        read_published(source)


GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"


@pytest.mark.parametrize("name", ["llama", "marian", "squeezebert", "switch"])
def test_values_of_another_type_or_size_are_sentences(name: str) -> None:
    facts = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    tensors = {tensor: mx.zeros(shape) for tensor, shape in facts["tensors"].items()}
    for key, value in facts["config"].items():
        if isinstance(value, bool) or not isinstance(value, int) or key.endswith("token_id"):
            continue
        for other in (2 * 10**9, 0, "7", [3]):
            config = HfConfig({**facts["config"], key: other})
            with suppress(MlxtError):
                published(config, tensors, "here")


@pytest.mark.parametrize("value", [5, {"a": 1}, [], [None], None])
def test_architectures_that_are_no_names_name_none(value: object) -> None:
    assert HfConfig(LLAMA | {"architectures": value}).architecture == ""
