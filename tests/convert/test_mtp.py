"""The layers of DeepSeek-V3 and GLMs that look ahead: in, out, or left out, knowingly."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.published import Published, full_model_table, published, typed_model
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.families.llama import LLAMA
from mlx_transformers.convert.match import match
from mlx_transformers.convert.weights import to_theirs
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.verbs.export_run import parameters
from tests.parity.draw import draw
from tests.parity.test_goldens import read

FAMILIES = ("deepseek_v3", "glm4_moe", "glm4_moe_lite")


def file(name: str, copies: bool = True) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """A golden's config, and its tensors with one more layer behind the last."""
    facts, _ = read(name)
    config, shapes = facts["config"], dict(facts["tensors"])
    dim, last = config["hidden_size"], config["num_hidden_layers"] - 1
    own, more = f"model.layers.{last}.", f"model.layers.{last + 1}."
    shapes |= {more + n.removeprefix(own): s for n, s in shapes.items() if n.startswith(own)}
    shapes |= {f"{more}{norm}.weight": [dim] for norm in ("enorm", "hnorm", "shared_head.norm")}
    shapes[f"{more}eh_proj.weight"] = [dim, 2 * dim]
    tensors = {n: mx.array(draw(n, s, facts["special"])) for n, s in shapes.items()}
    if copies:
        tensors[f"{more}embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
        tensors[f"{more}shared_head.head.weight"] = tensors["lm_head.weight"]
    return config | {"num_nextn_predict_layers": 1}, tensors


def settle(table: dict[str, Any]) -> dict[str, Any]:
    return full_model_table(typed_model(table, "here"), table["vocab_size"])


def out(found: Published) -> tuple[HfConfig, dict[str, mx.array]]:
    """What is exported of a model without the config that it came with."""
    ours, table = dict(tree_flatten(found.model.parameters())), settle(found.table)
    family, config = match(table, settle)
    assert family is found.family
    return config, to_theirs(family.weights(config), parameters(ours, table, family, config.data))


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_behind_the_last_one_are_read_and_written_as_they_came(name: str) -> None:
    config, tensors = file(name)
    found = published(HfConfig(config), tensors, name)
    assert found.table["ahead"] == {"kind": "mtp", "n": 1}
    step, dim = found.model.ahead.chain[0], config["hidden_size"]
    joined = tensors[f"model.layers.{config['num_hidden_layers']}.eh_proj.weight"]
    assert mx.array_equal(step.of_word.weight, joined[:, :dim])
    assert mx.array_equal(step.of_hidden.weight, joined[:, dim:])
    said, theirs = out(found)
    assert said.data["num_nextn_predict_layers"] == 1
    _, alone = file(name, copies=False)
    assert theirs.keys() == alone.keys()
    assert all(mx.array_equal(theirs[n], alone[n]) for n in theirs)


@pytest.mark.parametrize("copy", ["embed_tokens", "shared_head.head"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_with_numbers_of_its_own_is_refused(name: str, copy: str) -> None:
    config, tensors = file(name)
    own = f"model.layers.{config['num_hidden_layers']}.{copy}.weight"
    tensors[own] = tensors[own] + 1.0
    with pytest.raises(ConvertError, match=f"'{own}' has to be a copy of '[a-z_.]+'"):
        published(HfConfig(config), tensors, name)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_without_them_is_a_model_that_does_not_look_ahead(name: str) -> None:
    facts, _ = read(name)
    config = HfConfig(facts["config"] | {"num_nextn_predict_layers": 1})
    tensors = {n: mx.array(draw(n, s, facts["special"])) for n, s in facts["tensors"].items()}
    found = published(config, tensors, name)
    assert "ahead" not in found.table
    said, theirs = out(found)
    assert said.data["num_nextn_predict_layers"] == 0
    assert theirs.keys() == tensors.keys()
    with_them = published(HfConfig(file(name)[0]), file(name)[1], name).model
    tokens = mx.array([[4, 9, 7, 20]])
    assert np.allclose(np.array(found.model(tokens)), np.array(with_them(tokens)), atol=1e-6)


def test_those_of_ernie_have_a_layout_of_their_own_and_are_left_out() -> None:
    facts, _ = read("ernie4_5_moe")
    tensors = {n: mx.array(draw(n, s, facts["special"])) for n, s in facts["tensors"].items()}
    tensors["model.mtp_emb_norm.0.weight"] = mx.ones(facts["config"]["hidden_size"])
    config = HfConfig(facts["config"] | {"num_nextn_predict_layers": 1})
    assert "ahead" not in published(config, tensors, "ernie").table


def test_a_family_that_has_no_such_layers_is_written_without_them() -> None:
    table = {
        "kind": "decoder",
        "dim": 16,
        "n_layers": 2,
        "max_seq_len": 32,
        "vocab_size": 50,
        "embed": {"kind": "token"},
        "position": {"kind": "rope"},
        "block": {
            "placement": "pre",
            "norm": {"kind": "rms_norm"},
            "mixer": {"kind": "attention", "n_heads": 4},
            "ffn": {"kind": "glu", "hidden_dim": 24, "activation": "silu"},
        },
        "norm": {"kind": "rms_norm"},
        "head": {"kind": "lm", "tied": False},
        "init": {"kind": "normal", "std": 0.02},
        "ahead": {"kind": "mtp"},
    }
    model = typed_model(table, "here").build(50)
    family, config = match(settle(table), settle)
    assert family is LLAMA
    ours = parameters(dict(tree_flatten(model.parameters())), settle(table), family, config.data)
    again = published(config, to_theirs(family.weights(config), ours), "here").model
    tokens = mx.array([[4, 9, 7, 20]])
    assert mx.array_equal(model(tokens), again(tokens))
