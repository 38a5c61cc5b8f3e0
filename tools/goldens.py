"""Make the goldens of tests/parity: what tiny models of transformers give, with drawn weights.

    PYTHON tools/goldens.py [NAME...]       (PYTHON has torch, transformers and safetensors)

A golden is two files in tests/parity/goldens. NAME.json holds a config as transformers saves it,
the class, and the names and shapes of the tensors in its file; NAME.npz holds inputs and outputs.
The weights are not kept: tests/parity/draw.py draws them from the names. A new golden is one line
in CASES: a class of transformers, and what its config says beside SMALL. Those of TRAINED hold a
batch and the losses of ten steps on it as well.
"""

import argparse
import inspect
import json
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from draw import draw, tokens  # noqa: E402
from golden_decoders import DECODERS  # noqa: E402
from golden_encoders import ENCODERS  # noqa: E402
from golden_inputs import perceived  # noqa: E402
from golden_recent import RECENT  # noqa: E402
from golden_training import TRAINED, training  # noqa: E402

GOLDENS = ROOT / "tests" / "parity" / "goldens"
LENGTH, PROMPT, NEW, PADDING = 10, 5, 6, 4
MARGIN = 2e-3
"""A greedy choice must win by this much, so that rounding can't turn it."""

READS_PADDING = ("rwkv", "recurrent_gemma", "xlstm")
"""Recurrent models of transformers that read padding as tokens, whatever the mask says."""

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""The sizes of models with names like LLaMA's; a class that lacks one leaves it out."""


@dataclass(frozen=True)
class Case:
    """A class of transformers, its config beside SMALL, and numbers that must not be drawn."""

    model: str
    config: dict[str, Any] = field(default_factory=dict)
    special: dict[str, tuple[float, float]] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    """Regular expressions of tensors that follow from the config, so that no file needs them."""


GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}

FAIRSEQ = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "max_position_embeddings": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "pad_token_id": 1,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "decoder_start_token_id": 2,
}
T5 = {
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
    "relative_attention_max_distance": 12,
}

SIDE = {"head_dim": 6, "sliding_window": 4, "attn_logit_softcapping": 2.0}

CASES = {
    "gpt2": Case("GPT2LMHeadModel", GPT2),
    "gpt2_untied_relu": Case(
        "GPT2LMHeadModel",
        {**GPT2, "tie_word_embeddings": False, "activation_function": "relu", "n_inner": 24},
    ),
    "gpt2_scaled_by_layer": Case(
        "GPT2LMHeadModel", {**GPT2, "scale_attn_by_inverse_layer_idx": True}
    ),
    "openai_gpt": Case("OpenAIGPTLMHeadModel", GPT2),
    "gpt_neo": Case(
        "GPTNeoForCausalLM",
        {"num_layers": 2, "num_heads": 4, "window_size": 4}
        | {"attention_types": [[["global", "local"], 1]]},
    ),
    "gptj": Case("GPTJForCausalLM", {**GPT2, "rotary_dim": 2}),
    "codegen": Case("CodeGenForCausalLM", {**GPT2, "rotary_dim": 2}),
    "gpt_neox": Case("GPTNeoXForCausalLM", {"num_attention_heads": 2}),
    "gpt_neox_sequential": Case(
        "GPTNeoXForCausalLM",
        {"hidden_size": 24, "num_attention_heads": 2, "use_parallel_residual": False}
        | {"attention_bias": False},
    ),
    "bloom": Case("BloomForCausalLM", {"n_layer": 2, "n_head": 4}),
    "bloom_six_heads": Case(
        "BloomForCausalLM",
        {"hidden_size": 24, "n_layer": 1, "n_head": 6}
        | {"apply_residual_connection_post_layernorm": True},
    ),
    "falcon_one_head": Case("FalconForCausalLM"),
    "falcon_groups": Case(
        "FalconForCausalLM", {"new_decoder_architecture": True, "num_kv_heads": 2}
    ),
    "falcon_alibi": Case(
        "FalconForCausalLM",
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "opt": Case("OPTForCausalLM", {"ffn_dim": 24, "word_embed_proj_dim": 16}),
    "opt_narrow_post": Case(
        "OPTForCausalLM",
        {"ffn_dim": 24, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
    ),
    "phi": Case("PhiForCausalLM", {"qk_layernorm": True}),
    "persimmon": Case("PersimmonForCausalLM"),
    "mpt": Case("MptForCausalLM", {"d_model": 16, "n_heads": 4, "n_layers": 2}),
    "gpt_bigcode": Case("GPTBigCodeForCausalLM", GPT2),
    "xglm": Case(
        "XGLMForCausalLM",
        {"d_model": 16, "num_layers": 2, "attention_heads": 4, "ffn_dim": 24},
    ),
    "biogpt": Case("BioGptForCausalLM"),
    "bart": Case("BartForConditionalGeneration", {**FAIRSEQ, "scale_embedding": True}),
    "mbart": Case("MBartForConditionalGeneration", FAIRSEQ),
    "plbart": Case("PLBartForConditionalGeneration", FAIRSEQ),
    "pegasus": Case(
        "PegasusForConditionalGeneration",
        {**FAIRSEQ, "pad_token_id": 0},
        fixed=("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"),
    ),
    "marian": Case(
        "MarianMTModel", {**FAIRSEQ, "pad_token_id": 31, "share_encoder_decoder_embeddings": False}
    ),
    "m2m_100": Case("M2M100ForConditionalGeneration", FAIRSEQ),
    "blenderbot": Case("BlenderbotForConditionalGeneration", FAIRSEQ),
    "blenderbot_small": Case("BlenderbotSmallForConditionalGeneration", FAIRSEQ),
    "t5": Case("T5ForConditionalGeneration", T5),
    "longt5": Case(
        "LongT5ForConditionalGeneration",
        {**T5, "encoder_attention_type": "transient-global", "local_radius": 2}
        | {"global_block_size": 3, "feed_forward_proj": "gated-gelu"},
    ),
    "longt5_local": Case("LongT5ForConditionalGeneration", {**T5, "local_radius": 2}),
    "led": Case(
        "LEDForConditionalGeneration",
        {**FAIRSEQ, "attention_window": [4, 8], "max_encoder_position_embeddings": 32}
        | {"max_decoder_position_embeddings": 24},
    ),
    "t5_encoder": Case("T5EncoderModel", T5),
    "fsmt": Case(
        "FSMTForConditionalGeneration",
        {**FAIRSEQ, "src_vocab_size": 32, "tgt_vocab_size": 32, "langs": ["de", "en"]}
        | {"use_cache": False},  # with a cache, their pass over a target sees its future
        fixed=("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"),
    ),
    "t5gemma": Case(
        "T5GemmaForConditionalGeneration",
        {side: {**SMALL, **SIDE} for side in ("encoder", "decoder")}
        | {"decoder_start_token_id": 1},
    ),
    "mvp": Case("MvpForConditionalGeneration", FAIRSEQ),
    "t5_gated_untied": Case(
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "mt5": Case("MT5ForConditionalGeneration", T5),
    "umt5": Case("UMT5ForConditionalGeneration", T5),
    "switch": Case(
        "SwitchTransformersForConditionalGeneration",
        {**T5, "num_experts": 3, "expert_capacity": 4, "num_decoder_layers": 2}
        | {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 2},
    ),
    "llama": Case("LlamaForCausalLM"),
    "llama_biased_tied": Case(
        "LlamaForCausalLM",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 6},
    ),
    "mistral": Case("MistralForCausalLM", {"sliding_window": 5, "head_dim": 8}),
    "mixtral": Case(
        "MixtralForCausalLM",
        {"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    **{name: Case(*facts) for name, facts in DECODERS.items()},
    **{name: Case(*facts) for name, facts in (ENCODERS | RECENT).items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    names = parser.parse_args().names or list(CASES)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in names:
        make(name, CASES[name])


def make(name: str, case: Case) -> None:
    """Write the two files of a golden."""
    model, config, shapes = build(case)
    arrays = answers(model, case.model)
    if name in TRAINED:
        arrays |= training(model)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    facts = {
        "class": case.model,
        "transformers": transformers.__version__,
        "special": case.special,
        "config": config,
        "tensors": shapes,
    }
    (GOLDENS / f"{name}.json").write_text(as_text(facts))
    np.savez_compressed(GOLDENS / f"{name}.npz", **arrays)
    size = sum((GOLDENS / f"{name}.{end}").stat().st_size for end in ("json", "npz"))
    print(f"{name}: {', '.join(arrays)}; {size / 1000:.1f} kB")


def build(case: Case) -> tuple[Any, dict[str, Any], dict[str, list[int]]]:
    """The model with drawn weights, its config, and the names and shapes in its file."""
    cls = getattr(transformers, case.model)
    known = cls.config_class()
    small = {key: value for key, value in SMALL.items() if hasattr(known, key)}
    aliases = {new: old for new, old in known.attribute_map.items() if old in case.config}
    small = {key: value for key, value in small.items() if key not in aliases}
    config = cls.config_class(**{**small, **case.config})
    with tempfile.TemporaryDirectory() as folder:
        cls._from_config(config, dtype=torch.float32).save_pretrained(folder)
        file = Path(folder, "model.safetensors")
        arrays = load_file(file)
        fixed = [re.compile(pattern) for pattern in case.fixed]
        drawn = [key for key in arrays if not any(pattern.search(key) for pattern in fixed)]
        shapes = {key: list(arrays[key].shape) for key in drawn}
        tensors = {key: draw(key, shape, case.special) for key, shape in shapes.items()}
        save_file(tensors, file, {"format": "pt"})
        model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        said = json.loads(Path(folder, "config.json").read_text())
    return model.eval(), said, dict(sorted(shapes.items()))


def as_text(facts: dict[str, Any]) -> str:
    """JSON with a line for each option and each tensor."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def answers(model: Any, name: str) -> dict[str, np.ndarray]:
    """Inputs, and what the model says of them."""
    if (arrays := perceived(model)) is not None:
        return arrays | said(model, **arrays)
    if model.config.is_encoder_decoder:
        return encoder_decoder(model)
    decodes = ("CausalLM", "LMHeadModel", "ModelWithLMHead")
    both_ways = getattr(model.config, "causal", True) is False  # XLM's head serves either
    return decoder(model) if name.endswith(decodes) and not both_ways else encoder(model)


def decoder(model: Any) -> dict[str, np.ndarray]:
    """A pass, a row padded on the left, a greedy continuation."""
    vocab = model.config.vocab_size
    ids = tokens(1, vocab, (2, LENGTH))
    arrays = {"input_ids": ids, "logits": said(model, input_ids=ids)["logits"]}
    grows = getattr(model.config, "attn_temperature_tuning", False)  # with the index of a token
    if model.config.model_type not in READS_PADDING and not grows:
        arrays |= padded_on_the_left(model, ids)
    for seed in range(2, 50):
        prompt = tokens(seed, vocab, (2, PROMPT))
        chosen, margin = greedy(model, prompt)
        if margin > MARGIN:
            return arrays | {"prompt_ids": prompt, "gen_tokens": chosen}
    raise SystemExit("No prompt has a continuation without a tie.")


def padded_on_the_left(model: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    """A row whose first tokens are padding, and what the model says of it."""
    padded, mask = ids[1:].copy(), np.ones((1, LENGTH), np.int32)
    padded[:, :PADDING] = mask[:, :PADDING] = 0
    places = np.maximum(mask.cumsum(axis=1) - 1, 0).astype(np.int32)
    told = {"input_ids": padded, "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        told["position_ids"] = places
    arrays = {"lp_input_ids": padded, "lp_attention_mask": mask, "lp_position_ids": places}
    return arrays | {"lp_logits": said(model, **told)["logits"]}


def encoder(model: Any) -> dict[str, np.ndarray]:
    """A pass over two rows, the second padded on the right, with token types where there are."""
    config = model.config
    arrays = encoder_inputs(model)
    if getattr(config, "type_vocab_size", 0) > 1:
        arrays["token_type_ids"] = np.tile((np.arange(LENGTH) > 4).astype(np.int32), (2, 1))
    known = inspect.signature(model.forward).parameters
    found = said(model, **{name: array for name, array in arrays.items() if name in known})
    return arrays | found


def encoder_decoder(model: Any) -> dict[str, np.ndarray]:
    """A pass over a padded source and a target."""
    config = model.config
    arrays = encoder_inputs(model)
    arrays["decoder_input_ids"] = tokens(2, config.vocab_size, (2, LENGTH - 3))
    found = said(model, **arrays)
    return arrays | {k: found[k] for k in ("logits", "encoder_last_hidden_state")}


def encoder_inputs(model: Any) -> dict[str, np.ndarray]:
    """Two rows, the second padded on the right; of a Longformer, two global tokens and one, where
    its class doesn't choose them."""
    config = model.config
    ids, mask = tokens(1, config.vocab_size, (2, LENGTH)), np.ones((2, LENGTH), np.int32)
    ids[1, -PADDING:], mask[1, -PADDING:] = config.pad_token_id, 0
    arrays = {"input_ids": ids, "attention_mask": mask}
    known = inspect.signature(model.forward).parameters
    if "global_attention_mask" in known and not type(model).__name__.endswith("Classification"):
        arrays["global_attention_mask"] = np.zeros_like(mask)
        arrays["global_attention_mask"][[0, 0, 1], [0, 5, 0]] = 1
    return arrays


OUTPUTS = (
    *("logits", "prediction_logits", "seq_relationship_logits", "sop_logits", "start_logits"),
    *("end_logits", "last_hidden_state", "pooler_output", "encoder_last_hidden_state"),
    *("logits_per_image", "text_embeds", "image_embeds"),
)
"""The outputs of transformers that goldens keep."""


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Floats as they are, other numbers as 64-bit integers."""
    return torch.tensor(array if array.dtype.kind == "f" else array.astype(np.int64))


def said(model: Any, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of one pass."""
    with torch.no_grad():
        given = {name: _tensor(array) for name, array in inputs.items()}
        found = model(**given)
    return {name: found[name].numpy() for name in OUTPUTS if found.get(name) is not None}


def greedy(model: Any, prompt: np.ndarray) -> tuple[np.ndarray, float]:
    """The likeliest tokens after a prompt, and by how much the closest choice was won."""
    margin, rows = np.inf, prompt
    for _ in range(NEW):
        last = said(model, input_ids=rows)["logits"][:, -1]
        first, second = np.sort(last, axis=-1)[:, -1], np.sort(last, axis=-1)[:, -2]
        margin = min(margin, float((first - second).min()))
        best = last.argmax(axis=-1)
        rows = np.concatenate([rows, best[:, None].astype(rows.dtype)], axis=1)
    return rows[:, prompt.shape[1] :], margin


if __name__ == "__main__":
    main()
