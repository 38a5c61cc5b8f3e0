"""Every family says its models as a config that its own reader takes back, whole.

The goldens are configs that transformers wrote, so what is said is held against those.
"""

import re
from typing import Any

import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import full_model_table, typed_model
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.flat_model import MISSING, FlatModel
from mlx_transformers.convert.match import differences, write_config
from mlx_transformers.convert.weights import renamed, to_theirs
from tests.parity.draw import draw
from tests.parity.test_goldens import NAMES, rebuild
from tests.parity.test_goldens import read as golden

OTHERWISE = {
    # numbers that follow from others, written out
    *("n_inner", "ffn_hidden_size", "head_dim", "original_max_position_embeddings"),
    *("ffn_proj_factor", "ffn_round_up_to_multiple_of"),
    # the configs of the parts
    *("vision_config", "text_config"),
    # a token of masked training, which no model here has
    "use_mask_token",
    *(
        "rope_parameters",
        "attn_config",
        "ffn_config",
        "encoder",
        "decoder",
        "max_window_layers",
        "sliding_window",
        "pos_att_type",
    ),
    *("num_ln_in_parallel_attn", "num_kv_heads", "max_relative_positions", "multi_query"),
    *("_remove_final_layer_norm", "n_group", "topk_group", "num_nextn_predict_layers"),
    *("num_decoder_layers", "scale_decoder_outputs"),
    # other names of the same
    *("hidden_act", "hidden_activation", "activation_function", "architectures", "model_type"),
    # tokens, which a tokenizer tells
    *("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id"),
}
"""Keys that may be said in another way than they came in; the table that is read back counts."""


WRITTEN_OUT = {"squeezebert", "falcon_h1"}
"""Groups that are zeros of ours, factors of a config that become part of our weights: an export
has neither."""


def settle(table: dict[str, Any]) -> dict[str, Any]:
    return full_model_table(typed_model(table, "here"), table["vocab_size"])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WRITTEN_OUT])
def test_a_config_says_the_model_and_its_tensors_come_out_as_they_came_in(name: str) -> None:
    facts, _ = golden(name)
    found = rebuild(facts)
    table = settle(found.table)
    said = write_config(found.family, table)
    assert said is not None
    given = facts["config"]
    # a head of two classes marks tokens or the ends of an answer: only its class tells
    said["architectures"] = given["architectures"]
    back, weights = read(found.family, HfConfig(said))
    assert not differences(table, settle(back))
    assert not differences(settle(back), table)
    odd = {key for key, value in said.items() if key in given and given[key] != value}
    assert odd <= OTHERWISE
    theirs = to_theirs(weights, dict(tree_flatten(found.model.parameters())))
    special = facts["special"]
    came = {key: draw(key, shape, special) for key, shape in facts["tensors"].items()}
    came = renamed(came, found.family.renames, found.family.dropped)
    for tensor, array in theirs.items():
        assert np.array(array).tobytes() == came[tensor].tobytes(), tensor
    left = came.keys() - theirs.keys()
    assert not [key for key in left if not any(re.search(p, key) for p in found.family.spare)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("block.mixer.n_heads", 4),
        ("block.mixer.head_dim", 4),
        ("block.mixer.window", 7),
        ("block.position.kind", "rope"),
        ("head.width", None),
        ("head.absent", MISSING),
        ("block.absent", MISSING),
    ],
)
def test_a_view_reads_the_first_layer_that_has_something(path: str, value: Any) -> None:
    block = {
        "placement": "pre",
        "arrangement": "sequential",
        "norm": {"kind": "rms_norm"},
        "mixer": {"kind": "attention", "n_heads": 4, "window": None},
    }
    table = {
        "dim": 16,
        "n_layers": 3,
        "position": {"kind": "rope"},
        "block": block,
        "blocks": {"a": block, "b": block | {"mixer": block["mixer"] | {"window": 7}}},
        "pattern": ["a", "b"],
        "head": {"kind": "lm", "width": None},
    }
    assert FlatModel(table).get(path) == value
    assert [layer["mixer"]["window"] for layer in FlatModel(table).layers] == [None, 7, None]
