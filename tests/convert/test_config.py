"""No option of a config is passed over."""

import pytest

from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.known import FAMILIES, family_of
from mlx_transformers.convert.rope import rope
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.verbs.import_run import typed_model

LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 101,
}

SAID = {"big_bird": {"attention_type": "original_full"}}
"""What has to be said of families whose default is not built."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_an_option_that_nobody_reads_is_named(family) -> None:  # type: ignore[no-untyped-def]
    said = SAID.get(family.name, {})
    config = HfConfig({"model_type": family.name, "use_wormholes": True, **said})
    with pytest.raises(ConvertError, match="use_wormholes = true"):
        read(family, config)


def test_options_without_effect_or_value_are_accepted() -> None:
    said = {"torch_dtype": "float16", "use_cache": False, "eos_token_id": [1, 2], "novelty": None}
    read(family_of(HfConfig(LLAMA)), HfConfig(LLAMA | said))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "wavy"}}, "rope_type 'wavy'"),
        ({"rope_parameters": {"rope_theta": 1e4, "colour": "red"}}, 'colour = "red"'),
        ({"hidden_act": "sillu"}, "Did you mean 'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_is_not_built_is_refused_by_name(more, said) -> None:  # type: ignore[no-untyped-def]
    config = HfConfig(LLAMA | more)
    with pytest.raises(ConvertError, match=said):
        read(family_of(config), config)


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


def test_rope_in_both_dialects_is_one_table() -> None:
    newer = {"rope_parameters": {"rope_theta": 5e3, "partial_rotary_factor": 0.5}}
    older = {"rope_theta": 5e3, "rope_scaling": None, "partial_rotary_factor": 0.5}
    own = {"rotary_emb_base": 5e3, "rotary_pct": 0.5}
    want = {"kind": "rope", "theta": 5e3, "fraction": 0.5}
    assert rope(HfConfig(newer), fraction=1.0) == rope(HfConfig(older), fraction=1.0) == want
    keys = {"theta_key": "rotary_emb_base", "fraction_key": "rotary_pct"}
    found = rope(HfConfig(own), fraction=1.0, **keys)
    assert found == want


def test_rope_by_layer_type() -> None:
    both = {"full": {"rope_theta": 1e6, "rope_type": "default"}, "sliding": {"rope_theta": 1e4}}
    config = HfConfig({"rope_parameters": both})
    assert rope(config, layer="full")["theta"] == 1e6
    assert rope(config, layer="sliding")["theta"] == 1e4


def test_infinity_is_read_as_transformers_spells_it() -> None:
    assert HfConfig({"limit": [0.0, {"__float__": "Infinity"}]}).get("limit") == [0.0, float("inf")]
