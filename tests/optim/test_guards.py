"""Clipping, skipped updates, loss scaling and averaging, each beside its formula."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly import registry  # noqa: F401 - fills the slots
from mlx_transformers.core.tree import assign, select, snapshot
from mlx_transformers.optim.adam import AdamW
from mlx_transformers.optim.clip import (
    ClipAdaptive,
    ClipNone,
    ClipNorm,
    clip_adaptive,
    clip_global_norm,
    global_norm,
)
from mlx_transformers.optim.ema import Ema
from mlx_transformers.optim.finite import update_if
from mlx_transformers.optim.scaler import LossScaler
from mlx_transformers.optim.schedules import Linear


def tree(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"matrix": (3, 4), "vector": (5,), "stack": (2, 3, 4), "filter": (3, 2, 2, 4)}
    return {k: mx.array((scale * rng.normal(size=s)).astype(np.float32)) for k, s in shapes.items()}


def arrays(tree):
    return {path: np.array(leaf) for path, leaf in tree_flatten(tree)}


def test_global_clip_scales_everything_to_the_norm_and_no_further():
    gradients = tree()
    flat = np.concatenate([g.ravel() for g in arrays(gradients).values()])
    norm = np.linalg.norm(flat)
    clipped, before = clip_global_norm(gradients, norm / 4)
    assert before.item() == pytest.approx(norm, rel=1e-6)
    assert global_norm(clipped).item() == pytest.approx(norm / 4, rel=1e-5)
    untouched, _ = clip_global_norm(gradients, norm * 1.01)
    for path, g in arrays(gradients).items():
        np.testing.assert_array_equal(arrays(untouched)[path], g)


def test_the_norm_of_float16_gradients_does_not_overflow():
    gradients = {"a": mx.full((1000,), 300.0, mx.float16)}
    clipped, norm = clip_global_norm(gradients, 1.0)
    assert norm.item() == pytest.approx(300 * 1000**0.5, rel=1e-4)
    assert clipped["a"].dtype == mx.float16
    assert global_norm(clipped).item() == pytest.approx(1.0, rel=1e-2)


def test_adaptive_clip_is_the_formula_unit_by_unit():
    gradients, weights = tree(1, 5.0), tree(2)
    weights["matrix"] = weights["matrix"] * mx.array([[0.0], [1.0], [1e3]])
    clipped, norm = clip_adaptive(gradients, weights, factor=0.1, eps=1e-3)
    axes = {"matrix": -1, "vector": None, "stack": -1, "filter": (1, 2, 3)}
    for path, g in arrays(gradients).items():
        unit = {"axis": axes[path], "keepdims": True}
        w_norm = np.sqrt((arrays(weights)[path] ** 2).sum(**unit))
        g_norm = np.sqrt((g**2).sum(**unit))
        expected = g * np.minimum(1.0, 0.1 * np.maximum(w_norm, 1e-3) / g_norm)
        np.testing.assert_allclose(arrays(clipped)[path], expected, rtol=1e-5)
    assert norm.item() == pytest.approx(global_norm(gradients).item())
    np.testing.assert_array_equal(arrays(clipped)["matrix"][2], arrays(gradients)["matrix"][2])


def test_clip_kinds_build_functions_of_gradients_and_parameters():
    gradients, weights = tree(1, 50.0), tree(2)
    same, norm = ClipNone().build()(gradients, weights)
    assert same is gradients
    assert norm.item() == pytest.approx(global_norm(gradients).item())
    clipped, _ = ClipNorm(max_norm=2.0).build()(gradients, weights)
    assert global_norm(clipped).item() == pytest.approx(2.0, rel=1e-5)
    ours, _ = ClipAdaptive(factor=0.05, eps=0.01).build()(gradients, weights)
    theirs, _ = clip_adaptive(gradients, weights, 0.05, 0.01)
    for path, g in arrays(ours).items():
        np.testing.assert_array_equal(g, arrays(theirs)[path])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_poisoned_gradient_shows_in_the_norm(poison):
    gradients = tree()
    assert mx.isfinite(global_norm(gradients)).item()
    gradients["stack"][1, 2, 3] = poison
    for clip in (ClipNone(), ClipNorm(), ClipAdaptive()):
        _, norm = clip.build()(gradients, tree(1))
        assert not mx.isfinite(norm).item()


def test_select_takes_one_tree_whole_and_keeps_dtypes():
    new = {"a": mx.array(float("nan"), mx.bfloat16), "n": [mx.array(2**40, mx.uint64)]}
    old = {"a": mx.array(1.0, mx.bfloat16), "n": [mx.array(7, mx.uint64)], "more": mx.array(0)}
    kept = select(mx.array(False), new, old)
    assert kept.keys() == new.keys()
    assert kept["a"].item() == 1.0
    assert kept["n"][0].item() == 7
    assert (kept["a"].dtype, kept["n"][0].dtype) == (mx.bfloat16, mx.uint64)
    assert select(mx.array(True), new, old)["n"][0].item() == 2**40


def test_assign_keeps_containers_and_refuses_what_has_no_place():
    live = {"a": mx.array(1), "b": [{"c": mx.array(2)}, {}]}
    inner = live["b"][0]
    assign(live, {"a": mx.array(3), "b": [{"c": mx.array(4)}, {}]})
    assert live["b"][0] is inner
    assert inner["c"].item() == 4
    with pytest.raises(KeyError, match="no place for 'd'"):
        assign(live, {"d": mx.array(0)})
    with pytest.raises(KeyError, match="no place for 'e'"):
        assign(live, {"e": {}})


@pytest.mark.compiled
@pytest.mark.parametrize("decay", ["matrices", "all"])
def test_a_skipped_update_changes_nothing_and_the_next_one_goes_on(decay):
    """Finite, poisoned, finite, in one compiled step = two finite updates without it."""
    config = AdamW(learning_rate=1e-2, weight_decay=0.1, decay=decay, schedule=Linear(warmup=3))
    ends = []
    for poisons in ([1.0, float("nan"), 1.0], [1.0, 1.0]):
        mx.random.seed(0)
        model = nn.Linear(3, 2)
        mx.eval(model.parameters())
        optimizer = config.build(model, 10)
        state = [model.state, optimizer.state]

        def step(factor, model=model, optimizer=optimizer):
            gradients = {"weight": model.weight * factor, "bias": model.bias * factor}
            update_if(mx.isfinite(global_norm(gradients)), optimizer, model, gradients)

        compiled = mx.compile(step, inputs=state, outputs=state)
        for factor in poisons:
            before = snapshot([model.parameters(), optimizer.state])
            compiled(mx.array(factor))
            mx.eval(state)
            changed = {
                path
                for path, leaf in arrays([model.parameters(), optimizer.state]).items()
                if not np.array_equal(leaf, arrays(before)[path])
            }
            assert bool(changed) == np.isfinite(factor)
        ends.append(arrays([model.parameters(), optimizer.state]))
    for path, leaf in ends[0].items():
        np.testing.assert_array_equal(leaf, ends[1][path], err_msg=path)


@pytest.mark.compiled
def test_the_loss_scale_halves_on_overflow_and_doubles_after_enough_good_steps():
    scaler = LossScaler(initial=8.0, growth_interval=3, least=1.0, greatest=16.0)
    update = mx.compile(scaler.update, inputs=scaler.state, outputs=scaler.state)
    seen = []
    for finite in [True, True, False, True, True, True, True, True, True, True, True, True]:
        update(mx.array(finite))
        seen.append(scaler.scale.item())
    assert seen == [8, 8, 4, 4, 4, 8, 8, 8, 16, 16, 16, 16]
    for _ in range(10):
        update(mx.array(False))
    assert scaler.scale.item() == 1.0


def test_scaling_rescues_gradients_that_float16_loses():
    def loss(w, factor):
        return ((w * 1e-4).astype(mx.float16) * factor * 1e-4).astype(mx.float32)

    plain = mx.grad(lambda w: loss(w, 1.0))(mx.array(1.0, mx.float16))
    scaler = LossScaler(initial=2.0**12)
    scaled = mx.grad(lambda w: scaler.scale_loss(loss(w, 1.0)))(mx.array(1.0, mx.float16))
    assert abs(plain.item() - 1e-8) > 5e-9
    assert scaled.item() / scaler.scale.item() == pytest.approx(1e-8, rel=1e-2)


@pytest.mark.compiled
def test_the_average_follows_its_formula_under_compile():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4,)).astype(np.float32)
    ema = Ema({"layers": [{"w": mx.array(start)}, {}]}, decay=0.9)
    update = mx.compile(ema.update, inputs=ema.state, outputs=ema.state)
    expected = start.astype(np.float64)
    for _ in range(12):
        w = rng.normal(size=(4,)).astype(np.float32)
        expected = 0.9 * expected + 0.1 * w
        update({"layers": [{"w": mx.array(w)}, {}]})
        np.testing.assert_allclose(ema.average["layers"][0]["w"], expected, rtol=1e-5, atol=1e-6)


def test_the_average_of_bfloat16_weights_is_float32():
    ema = Ema({"w": mx.ones((1,), mx.bfloat16)}, decay=0.999)
    for _ in range(10):
        ema.update({"w": mx.full((1,), 2.0, mx.bfloat16)})
    assert ema.average["w"].dtype == mx.float32
    assert ema.average["w"].item() == pytest.approx(2 - 0.999**10, rel=1e-5)
    with pytest.raises(ValueError, match="below 1"):
        Ema({}, decay=1.0)
