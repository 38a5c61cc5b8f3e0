"""Outputs of a model for the inputs of a parity case, under the names of transformers.

Inputs and outputs are NumPy arrays by name: `input_ids`, `attention_mask`, ... in; `logits`,
`gen_tokens`, `lp_logits`, ... out.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_transformers.core.context import Context, Layout
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.core.task import Task
from mlx_transformers.models.model import Model
from mlx_transformers.ops.contrastive import unit

Arrays = Mapping[str, np.ndarray]
NEW_TOKENS = 16
"""Tokens of a greedy continuation."""


def outputs(model: Model, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return all outputs of a model for these inputs.

    Raises:
        ConvertError: no outputs are known for the model's tasks.
    """
    for task, give in BY_TASK.items():
        if task in model.tasks:
            return give(model, inputs)
    raise ConvertError(f"No outputs are known for a {type(model).__name__}.")


def decoder(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return logits, a greedy continuation with the KV cache, and logits with left padding."""
    outputs: dict[str, np.ndarray] = {}
    pixels = {"pixels": _pixels(inputs)} if "pixel_values" in inputs else {}
    if "input_ids" in inputs:
        ctx = _padded(inputs.get("attention_mask"))
        if "token_type_ids" in inputs:
            ctx.layout = replace(ctx.layout, types=_tokens(inputs["token_type_ids"]))
        outputs["logits"] = _numpy(model(_tokens(inputs["input_ids"]), ctx, **pixels))
    if "prompt_ids" in inputs:
        rows, length = inputs["prompt_ids"].shape
        state = model.init_state(rows, length + NEW_TOKENS, given=pixels) if pixels else None
        outputs |= greedy(model, inputs["prompt_ids"], state=state)
    if "lp_input_ids" in inputs:
        ctx = _padded(inputs["lp_attention_mask"], inputs.get("lp_position_ids"))
        outputs["lp_logits"] = _numpy(model(_tokens(inputs["lp_input_ids"]), ctx))
    return outputs


def greedy(
    model: Any, prompt: np.ndarray, new_tokens: int = NEW_TOKENS, state: Any = None
) -> dict[str, np.ndarray]:
    """Return the greedy continuation of every row, with the KV cache.

    Returns `gen_tokens` [B, N] and `gen_logits` [B, N, V], the logits that chose them.
    """
    rows, length = prompt.shape
    state = model.init_state(rows, length + new_tokens) if state is None else state
    tokens = _tokens(prompt)
    logits: list[mx.array] = []
    chosen: list[mx.array] = []
    for n in range(new_tokens):
        out, state = model.step(tokens, state)
        if n and length + n == (model.recompute_beyond or 0) + 1:
            all_tokens = mx.concatenate([_tokens(prompt), *chosen], axis=1)
            again = model.init_state(rows, length + new_tokens, total_length=length + n)
            out, state = model.step(all_tokens, again)
        logits.append(out[:, -1])
        tokens = mx.argmax(out[:, -1:], axis=-1)
        chosen.append(tokens)
        mx.eval(tokens, state)
    return {
        "gen_tokens": _numpy(mx.concatenate(chosen, axis=1)).astype(np.int64),
        "gen_logits": _numpy(mx.stack(logits, axis=1)),
    }


def encoder(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return an encoder's outputs per token and per sequence, under all their names.

    Several candidates in a row, `[B, C, T]`, are read one by one (multiple choice).
    """
    ids = inputs["input_ids"]
    alike = {name: array for name, array in inputs.items() if array.shape == ids.shape}
    rows = {name: array.reshape(-1, ids.shape[-1]) for name, array in alike.items()}
    mask, types = rows.get("attention_mask"), rows.get("token_type_ids")
    reads_all = rows.get("global_attention_mask")
    ctx = Context(
        Layout(
            valid=None if mask is None else mx.array(mask.astype(bool)),
            types=None if types is None else _tokens(types),
            global_tokens=None if reads_all is None else mx.array(reads_all.astype(bool)),
        )
    )
    x = model.features(model.embedded({"tokens": _tokens(rows["input_ids"])}, ctx), ctx)
    outputs = {"last_hidden_state": x}
    if "pool" in model:
        pooled = model.pooled(x, ctx)
        pooled = pooled.reshape(ids.shape[:-1]) if ids.ndim > 2 else pooled
        names = ("logits", "seq_relationship_logits", "sop_logits", "pooler_output", "text_embeds")
        outputs |= dict.fromkeys(names, pooled)
    if "head" in model:
        logits = model.head(x, model.embed.table)
        outputs |= dict.fromkeys(("logits", "prediction_logits"), logits)
        if logits.shape[-1] == 1:
            outputs["logits"] = logits.squeeze(-1)
        if logits.shape[-1] == 2:
            outputs |= {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
    return {name: _numpy(array) for name, array in outputs.items()}


def vision(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the vectors of a picture's patches, and its pooled vector under all its names."""
    ctx = Context()
    x = model.features(model.embedded({"pixels": _pixels(inputs)}, ctx), ctx)
    outputs = {"last_hidden_state": x}
    if "pool" in model:
        names = ("logits", "pooler_output", "image_embeds")
        outputs |= dict.fromkeys(names, model.pooled(x, ctx))
    return {name: _numpy(array) for name, array in outputs.items()}


def rebuilt(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the numbers of every patch of a picture; those of the least `noise` are seen."""
    order = mx.argsort(mx.array(inputs["noise"]), axis=1)
    return {"logits": _numpy(model.reconstruct(_pixels(inputs), order, Context()))}


def two_towers(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the vectors of texts and pictures, with length 1, and the logits of all pairs."""
    mask = inputs.get("attention_mask")
    ctx = Context(Layout(valid=None if mask is None else mx.array(mask.astype(bool))))
    x = model.features(model.embedded({"tokens": _tokens(inputs["input_ids"])}, ctx), ctx)
    texts, pictures = model.pooled(x, ctx), model.encode_image(_pixels(inputs), Context())
    logits = model.logits(pictures, texts)
    outputs = {"text_embeds": unit(texts), "image_embeds": unit(pictures)}
    outputs |= {"logits_per_image": logits, "logits_per_text": logits.T}
    return {name: _numpy(array) for name, array in outputs.items()}


def encoder_decoder(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the encoder's output, logits of a target, and a greedy target.

    A greedy target of the source `prompt_ids` begins with the token `start_id`.
    """
    outputs: dict[str, np.ndarray] = {}
    if "input_ids" in inputs:
        mask = inputs.get("attention_mask")
        valid = None if mask is None else mx.array(mask.astype(bool))
        reads_all = inputs.get("global_attention_mask")
        layout = Layout(
            global_tokens=None if reads_all is None else mx.array(reads_all.astype(bool))
        )
        memory = model.encode(_tokens(inputs["input_ids"]), Context(layout, memory_valid=valid))
        ctx = Context(memory=memory, memory_valid=valid)
        outputs["encoder_last_hidden_state"] = _numpy(ctx.memory)
        outputs["logits"] = _numpy(model.decode(_tokens(inputs["decoder_input_ids"]), ctx))
    if "prompt_ids" in inputs:
        source = _tokens(inputs["prompt_ids"])
        rows = source.shape[0]
        state = model.init_state(rows, 1 + NEW_TOKENS, given={"source": source})
        outputs |= greedy(model, np.full((rows, 1), int(inputs["start_id"])), state=state)
    return outputs


def speech(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the encoder's output, logits of a target, and a greedy target of the same sound, which
    begins with the token `start_id`."""
    frames = mx.array(inputs["input_features"]).transpose(0, 2, 1)
    ctx = Context(memory=model.encode(frames, Context()))
    outputs = {
        "encoder_last_hidden_state": _numpy(ctx.memory),
        "logits": _numpy(model.decode(_tokens(inputs["decoder_input_ids"]), ctx)),
    }
    if "start_id" in inputs:
        rows = len(frames)
        state = model.init_state(rows, 1 + NEW_TOKENS, given={"frames": frames})
        outputs |= greedy(model, np.full((rows, 1), int(inputs["start_id"])), state=state)
    return outputs


BY_TASK: dict[Task, Callable[[Any, Arrays], dict[str, np.ndarray]]] = {
    "causal_lm": decoder,
    "encode": encoder,
    "seq2seq": encoder_decoder,
    "see": vision,
    "rebuild": rebuilt,
    "match": two_towers,
    "listen": speech,
}
"""The outputs of models by task."""


def _tokens(ids: np.ndarray) -> mx.array:
    return mx.array(ids.astype(np.int32))


def _pixels(inputs: Arrays) -> mx.array:
    """Pictures with their channels last, `[B, height, width, channels]`."""
    return mx.array(inputs["pixel_values"]).transpose(0, 2, 3, 1)


def _padded(mask: np.ndarray | None, positions: np.ndarray | None = None) -> Context:
    return Context(
        Layout(
            valid=None if mask is None else mx.array(mask.astype(bool)),
            positions=None if positions is None else mx.array(positions.astype(np.int32)),
        )
    )


def _numpy(array: mx.array) -> np.ndarray:
    return np.array(array)
