"""Changes in what shared weights compute are listed; new and unused parts are not."""

from typing import Any

from mlx.utils import tree_flatten

from mlx_transformers.assembly.changed_options import changed_options
from mlx_transformers.assembly.published import full_model_table, typed_model

BLOCK: dict[str, Any] = {
    "placement": "pre",
    "norm": {"kind": "rms_norm"},
    "mixer": {"kind": "attention", "n_heads": 2},
    "ffn": {"kind": "glu", "hidden_dim": 24, "activation": "silu"},
}
MODEL: dict[str, Any] = {
    "kind": "decoder",
    "dim": 16,
    "n_layers": 2,
    "max_seq_len": 16,
    "vocab_size": 20,
    "embed": {"kind": "token"},
    "position": {"kind": "rope"},
    "block": BLOCK,
    "norm": {"kind": "rms_norm"},
    "head": {"kind": "lm", "tied": False},
    "init": {"kind": "normal", "std": 0.1},
}


def lines(**changes: Any) -> list[str]:
    """What changes between `MODEL` and itself with changed keys."""
    target = {**MODEL, **changes}
    built = [typed_model(table, "here") for table in (MODEL, target)]
    shapes = [
        {name: array.shape for name, array in tree_flatten(config.build(20).parameters())}
        for config in built
    ]
    shared = [name for name in shapes[1] if shapes[0].get(name) == shapes[1][name]]
    tables = [full_model_table(config, 20) for config in built]
    return changed_options(*tables, list(shapes[1]), shared)


def test_equal_models_and_other_sizes_change_nothing() -> None:
    assert lines() == []
    assert lines(n_layers=3) == lines(max_seq_len=64) == []
    assert lines(block=BLOCK | {"dropout": 0.3}, init={"kind": "normal", "std": 0.5}) == []
    # a network of another width is new as a whole, whatever its activation
    assert (
        lines(block=BLOCK | {"ffn": BLOCK["ffn"] | {"hidden_dim": 40, "activation": "gelu"}}) == []
    )


def test_keys_that_change_what_weights_compute_are_listed() -> None:
    assert lines(head={"kind": "lm", "tied": True}) == ["head.tied = False there, True here"]
    assert lines(head={"kind": "lm", "tied": False, "scale": 0.5}) == [
        "head.scale = 1.0 there, 0.5 here"
    ]
    assert lines(block=BLOCK | {"placement": "post"}) == [
        "block.placement = 'pre' there, 'post' here"
    ]
    [norm] = lines(block=BLOCK | {"mixer": BLOCK["mixer"] | {"qk_norm": {"kind": "rms_norm"}}})
    assert norm == "block.mixer.qk_norm = none there, kind 'rms_norm' here"
    assert "block.position = kind 'rope' there, kind 'alibi' here" in lines(
        position={"kind": "alibi"}
    )
