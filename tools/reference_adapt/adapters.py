"""Cases of form `model` with an adapter that PEFT, mlx-lm or the library adapters saved."""

from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_transformers.assembly.adapted import read_adapter
from mlx_transformers.assembly.published import Published, read_published
from mlx_transformers.core.context import Context, Layout
from mlx_transformers.layers.adapters.merge import merge
from mlx_transformers.models.encoder_decoder import EncoderDecoderModel
from reference_adapt.model_form import ModelRule, generated
from reference_adapt.numeric import Arrays


def adapted(folder: Path, meta: dict[str, Any], x: Arrays) -> Arrays:
    """The outputs with the adapter, without it, after merging it, and of greedy decoding."""
    base = read_published(folder / "base")
    found = {"base_logits": logits(base, x)}
    base = read_adapter(base, folder / "adapter").base
    found["logits"] = logits(base, x)
    if "gen_tokens" in meta["outputs"]:
        n = meta["gen"]["new_tokens"] if "gen" in meta else 12
        found |= continued(base, x["prompt_ids"], n)
    if "merged_logits" in meta["outputs"]:
        merge(base.model)
        found["merged_logits"] = logits(base, x)
    return found


def logits(base: Published, x: Arrays) -> mx.array:
    """The logits of a model of any kind."""
    tokens = x["input_ids"].astype(mx.int32)
    valid = x["attention_mask"].astype(mx.bool_) if "attention_mask" in x else None
    model: Any = base.model
    if isinstance(model, EncoderDecoderModel):
        return model(tokens, x["decoder_input_ids"].astype(mx.int32), Context(memory_valid=valid))
    types = x["token_type_ids"].astype(mx.int32) if "token_type_ids" in x else None
    out: mx.array = model(tokens, Context(Layout(valid=valid, types=types)))
    return out


def continued(base: Published, prompts: mx.array, n: int) -> Arrays:
    """The tokens that the model generates greedily, and the logits that each was taken from."""
    model: Any = base.model
    if not isinstance(model, EncoderDecoderModel):
        return generated(model, prompts, n)
    start = base.config.data["decoder_start_token_id"]
    token = mx.full((len(prompts), 1), start, dtype=mx.int32)
    state = model.init_state(len(prompts), n + 1, given={"source": prompts.astype(mx.int32)})
    tokens, every = [], []
    for _ in range(n):
        scores, state = model.step(token, state)
        token = scores[:, -1:].argmax(axis=-1).astype(mx.int32)
        tokens.append(token)
        every.append(scores[:, -1:])
    return {
        "gen_tokens": mx.concatenate(tokens, axis=1).astype(mx.int64),
        "gen_logits": mx.concatenate(every, axis=1),
    }


RULES = (ModelRule(r"get_peft_model|add_adapter|linear_to_lora_layers|load_adapters", adapted),)
