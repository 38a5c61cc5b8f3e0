"""Make the goldens of families that transformers doesn't have, from mlx-lm's models.

    PYTHON tools/goldens_mlx_lm.py [NAME...]       (PYTHON has mlx-lm)

The files are those of tools/goldens.py: a config, names and shapes of tensors, inputs and logits.
"""

import argparse
import json
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from draw import draw, tokens  # noqa: E402

GOLDENS = ROOT / "tests" / "parity" / "goldens"
SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
LINEAR = {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}}
ROTARY = {"rotary": {"base": 500.0, "type": "origin"}}

NAMED = {"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps"}
"""Keys of EXAONE 3, and those of SMALL in their place."""
LLAMA3 = {
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # mlx-lm has no InternLM 1: a LLaMA with biases, its positions under other keys
    "internlm": ("llama", {"bias": True, **ROTARY}, {"attention_bias": True, "rope_theta": 500.0}),
    "internlm2": ("internlm2", {"bias": True}, {}),
    "internlm2_linear": ("internlm2", {"bias": False, **LINEAR, "rope_traditional": True}, {}),
    "exaone": ("exaone", {"num_layers": 2, "layer_norm_epsilon": 1e-5, **LLAMA3}, {}),
    "internlm3": ("internlm3", {"bias": True, "qkv_bias": True, "head_dim": 4, **LINEAR}, {}),
}
"""By name: mlx-lm's module, the config beside SMALL, and what only mlx-lm is told."""
TITLES = {"exaone": "Exaone"}


def make(name: str) -> None:
    """Write the two files of a golden."""
    module, own, more = CASES[name]
    family = name.partition("_")[0]
    title = TITLES.get(family, family.replace("internlm", "InternLM")) + "ForCausalLM"
    config = {**SMALL, **own, "model_type": family, "architectures": [title]}
    config = {k: v for k, v in config.items() if k not in {NAMED.get(key) for key in own}}
    if "rotary" in config:
        del config["rope_theta"], config["num_key_value_heads"]
    code: Any = import_module(f"mlx_lm.models.{module}")
    told = {**config, **more, "num_key_value_heads": config.get("num_key_value_heads", 4)}
    model = code.Model(code.ModelArgs.from_dict(told))
    shapes = {key: list(value.shape) for key, value in tree_flatten(model.parameters())}
    model.load_weights([(key, mx.array(draw(key, tuple(s)))) for key, s in shapes.items()])
    ids = tokens(1, SMALL["vocab_size"], (2, 10))  # type: ignore[arg-type]
    logits = np.array(model(mx.array(ids)))
    facts = {
        "class": title,
        "mlx_lm": metadata.version("mlx-lm"),
        "special": {},
        "config": config,
        "tensors": dict(sorted(shapes.items())),
    }
    (GOLDENS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    np.savez_compressed(GOLDENS / f"{name}.npz", input_ids=ids, logits=logits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}")
    for name in parser.parse_args().names or CASES:
        make(name)


if __name__ == "__main__":
    main()
