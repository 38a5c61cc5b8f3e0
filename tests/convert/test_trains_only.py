"""Tables that affect training alone don't keep a model from being a published one."""

from mlx_transformers.convert.match import differences


def test_skipped_layers_and_slots_of_training_alone_are_no_difference() -> None:
    trained = {
        "depth": {"kind": "layer_drop", "rate": 0.1},
        "slots": {"factor": 1.25, "eval_factor": None},
        "jitter": 0.01,
    }
    assert differences(trained, {"depth": None, "slots": None, "jitter": 0.0}) == []


def test_what_evaluation_computes_too_is_named() -> None:
    found = differences(
        {"depth": {"kind": "universal"}, "slots": {"factor": 1.0, "eval_factor": 2.0}},
        {"depth": None, "route": {"capacity": 0.5}},
    )
    assert found == [
        "depth = kind 'universal', not None",
        "slots = a table, not None",
        "route = None, not a table",
    ]
