"""Tiny published folders: configs as their classes write them, and weights drawn here."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_transformers.convert.checkpoint import write_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.known import family_of
from mlx_transformers.convert.weights import to_theirs
from mlx_transformers.data.tokenizers.byte import ByteTokenizer
from mlx_transformers.data.tokenizers.published import tokenizer_files
from mlx_transformers.importing import typed_model

ROPED = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 260,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 260},
    "llama": {**ROPED, "tie_word_embeddings": True, "head_dim": 12, "attention_bias": True},
    "mistral": {**ROPED, "sliding_window": 6},
    "mixtral": {**ROPED, "num_local_experts": 3, "num_experts_per_tok": 2},
}


def write(folder: Path, name: str, dtype: str = "float32", **changes: Any) -> Path:
    """A folder with a model of this family, with the byte tokenizer as its tokenizer.json."""
    config = {"model_type": name, "dtype": dtype, **CONFIGS[name], **changes}
    table, weights = read(family_of(HfConfig(config)), HfConfig(config))
    mx.random.seed(1)
    model = typed_model(table, name).build(260)
    ours = {
        name: array + 0.1 * mx.random.normal(array.shape)
        for name, array in tree_flatten(model.parameters())
    }
    theirs = to_theirs(weights, ours)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder, {n: a.astype(getattr(mx, dtype)) for n, a in theirs.items()})
    for file, content in tokenizer_files(ByteTokenizer()).items():
        (folder / file).write_bytes(content)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder
