"""IA³, prompts and prefixes as PEFT's folders: the inverse of its readers beside this file."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from ...core.errors import ConvertError
from .layout import WEIGHT, Arrays, Layout
from .peft import PREFIX
from .writing import FUSE, PEFT_DEFAULTS, Written, move_of


def peft_ia3(layout: Layout, outputs: Arrays, inputs: Arrays) -> Written:
    """IA³ as PEFT saves it: `ia3_l` is `[out, 1]` where it scales a module's outputs, `[1, in]` in
    its `feedforward_modules`, where it scales the inputs.

    Args:
        layout: the names of the base.
        outputs: factors of the outputs of our layers `[out]`, by path.
        inputs: factors of the inputs of others `[in]`.

    Raises:
        ConvertError: a layer has no module of its own, or shares its module's input with layers
            that have other factors.
    """
    of_outputs, of_inputs = _of_modules(layout, outputs), _inputs_of_modules(layout, inputs)
    tensors = {f"{PREFIX}{name}.ia3_l": array[:, None] for name, array in of_outputs.items()}
    tensors |= {f"{PREFIX}{name}.ia3_l": array[None] for name, array in of_inputs.items()}
    if both := sorted(of_outputs.keys() & of_inputs.keys()):
        raise ConvertError(f"PEFT scales inputs or outputs of a module, and {both[0]} has both.")
    config = {
        "peft_type": "IA3",
        "target_modules": sorted({**of_outputs, **of_inputs}),
        "feedforward_modules": sorted(of_inputs),
        "fan_in_fan_out": any(_transposed(layout, name) for name in (*of_outputs, *of_inputs)),
        "init_ia3_weights": True,
    }
    return _written(config, tensors)


def _of_modules(layout: Layout, factors: Arrays) -> Arrays:
    """Factors of outputs by published module; layers packed into it without factors have ones."""
    of_module: Arrays = {}
    for path in factors:
        move, name = _single(layout, path)
        if name not in of_module:
            parts = [
                factors[layer_path]
                if layer_path in factors
                else mx.ones((layout.shapes[layer_path + WEIGHT][0],))
                for layer_path in layout.layers(move)
            ]
            of_module[name] = move.via.save(parts)[0]
    return of_module


def _inputs_of_modules(layout: Layout, factors: Arrays) -> Arrays:
    """Factors of inputs by published module."""
    of_module: Arrays = {}
    for path, factor in factors.items():
        move, name = _single(layout, path)
        of_layers = [factors.get(vector) for vector in layout.layers(move)]
        if any(vector is None or not bool(mx.array_equal(vector, factor)) for vector in of_layers):
            raise ConvertError(
                f"{name} packs layers whose inputs have other factors than {path}. {FUSE}"
            )
        of_module[name] = factor
    return of_module


def _single(layout: Layout, path: str) -> tuple[Any, str]:
    """The row of a layer, and its published module.

    Raises:
        ConvertError: several modules hold it: stacked experts.
    """
    move = move_of(layout, path)
    if len(move.theirs) > 1:
        raise ConvertError(f"{path} has IA³ factors of stacked experts, which PEFT lacks. {FUSE}")
    return move, move.theirs[0].removesuffix(WEIGHT)


def _transposed(layout: Layout, name: str) -> bool:
    return layout.transposed(layout.moves[name + WEIGHT])


def peft_prompt(vectors: mx.array, sizes: Mapping[str, int], task: str) -> Written:
    """A soft prompt `[P, W]` as PEFT's prompt tuning saves it.

    Args:
        vectors: of the virtual tokens.
        sizes: `num_layers` and `num_attention_heads` of the base.
        task: PEFT's name of the base's task.
    """
    length, width = vectors.shape
    config = {
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",
        **_virtual(length, width, task),
        **sizes,
    }
    return _written(config, {"prompt_embeddings": vectors})


def peft_prefix(layers: Sequence[tuple[mx.array, mx.array]], task: str) -> Written:
    """Keys and values `[G, P, K]` of all layers as PEFT's prefix tuning saves them, one table
    `[P, 2 layers G K]`.

    Args:
        layers: keys and values of each layer in order.
        task: PEFT's name of the base's task.
    """
    both = mx.stack([array for pair in layers for array in pair])
    _, heads, length, width = both.shape
    table = both.transpose(2, 0, 1, 3).reshape(length, -1)
    config = {
        "peft_type": "PREFIX_TUNING",
        "prefix_projection": False,
        "encoder_hidden_size": heads * width,
        **_virtual(length, heads * width, task),
        "num_layers": len(layers),
        "num_attention_heads": heads,
    }
    return _written(config, {"prompt_embeddings": table})


def _virtual(length: int, width: int, task: str) -> dict[str, Any]:
    """The keys of virtual tokens."""
    return {
        "num_virtual_tokens": length,
        "token_dim": width,
        "num_transformer_submodules": 1,
        "task_type": task,
    }


def _written(config: dict[str, Any], tensors: Arrays) -> Written:
    common = {key: value for key, value in PEFT_DEFAULTS.items() if key != "bias"}
    return Written(common | config, tensors)
