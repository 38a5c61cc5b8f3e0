"""Layers of a stack that share attention and ffn: parameters once, gradients summed, decoding."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_transformers.core.context import Context
from tests.contract.models import LLAMA
from tests.contract.suite import parse, randomize

MAMBA2 = {"kind": "mamba2", "head_dim": 4, "state_dim": 3, "chunk": 4}
SHARED = {
    "kind": "shared_block",
    "attention": {"kind": "attention", "n_heads": 4},
    "hidden_dim": 12,
    "adapter_rank": 3,
    "norm": {"kind": "rms_norm"},
    "mixer": MAMBA2,
}
TOKENS = mx.array([[3, 1, 4, 1, 5, 9, 2], [2, 7, 1, 8, 2, 8, 1]])


def model(n_blocks: int = 1) -> Any:
    block = {k: v for k, v in LLAMA["block"].items() if k != "ffn"}
    hybrid = {**block, "norm": {"kind": "none"}, "mixer": SHARED | {"n_blocks": n_blocks}}
    mamba = {**block, "mixer": MAMBA2}
    table = LLAMA | {
        "n_layers": 5,
        "block": block,
        "blocks": {"mamba": mamba, "hybrid": hybrid},
        "pattern": ["mamba", "hybrid", "hybrid", "mamba", "hybrid"],
    }
    return randomize(parse("model", table).build(13), 0)


def owners(net: Any) -> list[int]:
    names = [name for name, _ in tree_flatten(net.parameters()) if ".shared.down.weight" in name]
    return [int(name.split(".")[2]) for name in names]


def test_the_first_layers_own_what_the_others_borrow_by_turns() -> None:
    assert owners(model()) == [1]
    net = model(n_blocks=2)
    assert owners(net) == [1, 2]
    mixers = [net.stack.blocks[i].mixer for i in (1, 2, 4)]
    assert mixers[2].layers() is mixers[0].layers()
    assert mixers[2].layers() is not mixers[1].layers()


def loss(net: Any) -> tuple[mx.array, dict[str, mx.array]]:
    def run(params: Any) -> mx.array:
        net.update(params)
        return net(TOKENS, Context()).square().sum()

    value, grads = mx.value_and_grad(run)(net.trainable_parameters())
    return value, dict(tree_flatten(grads))


def test_a_change_of_the_shared_weights_reaches_all_layers() -> None:
    net = model()
    name = "stack.blocks.1.mixer.shared.down.weight"
    value, grads = loss(net)
    weight = net.stack.blocks[1].mixer.shared.down.weight
    step = 1e-3 * mx.random.normal(weight.shape, key=mx.random.key(1))
    net.stack.blocks[1].mixer.shared.down.weight = weight + step
    up = loss(net)[0]
    net.stack.blocks[1].mixer.shared.down.weight = weight - step
    down = loss(net)[0]
    moved, told = ((up - down) / 2).item(), (grads[name] * step).sum().item()
    assert abs(moved - told) <= 1e-2 * abs(told) + 1e-3
    assert value.item() > 0


def test_checkpointed_layers_give_the_same_gradients() -> None:
    net = model()
    _, want = loss(net)
    net.stack.recomputed = frozenset(range(5))
    _, got = loss(net)
    assert want.keys() == got.keys()
    for name, grad in want.items():
        assert mx.allclose(got[name], grad, rtol=1e-4, atol=1e-4), name


def test_decoding_is_the_whole_sequence() -> None:
    net = model(n_blocks=2)
    whole, state, outs = net(TOKENS, Context()), net.init_state(2, 7), []
    for at in (slice(0, 3), slice(3, 4), slice(4, 7)):
        y, state = net.step(TOKENS[:, at], state)
        outs.append(y)
    assert mx.allclose(mx.concatenate(outs, axis=1), whole, atol=1e-4)
