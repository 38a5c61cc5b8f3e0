"""Adapters of other libraries in and out: equal logits, and refusals by name."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly.adapted import read_adapter
from mlx_transformers.assembly.published import read_published
from mlx_transformers.assembly.saved import load
from mlx_transformers.convert.checkpoint import write_tensors
from mlx_transformers.convert.mlx_lm import MLX_LM
from mlx_transformers.core.errors import MlxtError
from mlx_transformers.runs.folder import RunFolder
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.fuse import fuse
from mlx_transformers.verbs.import_run import import_run

DIM, WIDE, VOCAB = 16, 24, 19
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCAB,
    "hidden_size": DIM,
    "intermediate_size": WIDE,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
}
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}
TOKENS = mx.array([[1, 5, 2, 0, 12, 7]])
SHAPES = {"q_proj": (DIM, DIM), "k_proj": (8, DIM), "v_proj": (8, DIM), "o_proj": (DIM, DIM)}
MLP = {"gate_proj": (WIDE, DIM), "up_proj": (WIDE, DIM), "down_proj": (DIM, WIDE)}


def drawn(*shape: int) -> mx.array:
    return 0.3 * mx.random.normal(shape)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA as transformers saves it."""
    mx.random.seed(0)
    folder = tmp_path_factory.mktemp("base")
    tensors = {f"{n}.weight": drawn(VOCAB, DIM) for n in ("model.embed_tokens", "lm_head")}
    tensors["model.norm.weight"] = drawn(DIM)
    for i in range(2):
        at = f"model.layers.{i}"
        tensors |= {f"{at}.self_attn.{n}.weight": drawn(*s) for n, s in SHAPES.items()}
        tensors |= {f"{at}.mlp.{n}.weight": drawn(*s) for n, s in MLP.items()}
        norms = ("input_layernorm", "post_attention_layernorm")
        tensors |= {f"{at}.{n}.weight": drawn(DIM) for n in norms}
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tensors(folder, tensors)
    return folder


def peft_folder(at: Path, **options: Any) -> Path:
    """A LoRA of two modules of layer 1 as PEFT saves it."""
    mx.random.seed(1)
    at.mkdir()
    config = {key: value for key, value in options.items() if key != "ranks"}
    (at / "adapter_config.json").write_text(json.dumps(PEFT | config))
    tensors = {}
    for name, (out, width) in {
        "self_attn.q_proj": (DIM, DIM),
        "mlp.down_proj": (DIM, WIDE),
    }.items():
        module = f"base_model.model.model.layers.1.{name}"
        rank = options.get("ranks", 2) if name == "mlp.down_proj" else 2
        tensors[f"{module}.lora_A.weight"] = drawn(rank, width)
        tensors[f"{module}.lora_B.weight"] = drawn(out, rank)
        if options.get("use_dora"):
            tensors[f"{module}.lora_magnitude_vector"] = 1 + drawn(out)
    mx.save_safetensors(str(at / "adapter_model.safetensors"), tensors)
    return at


@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True, "alpha_pattern": {"down_proj": 9}}, {"use_dora": True}, {"ranks": 3}],
    ids=["lora", "rslora with a pattern", "dora", "two ranks"],
)
def test_a_peft_adapter_is_imported_exported_and_merged(
    base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = peft_folder(tmp_path / "adapter", **options)
    run = import_run(base, "adapted", tmp_path, lambda _: None, adapter=folder)
    model: Any = load(run.path)[0]
    expected = model(TOKENS)
    plain: Any = read_published(base).model
    assert mx.abs(plain(TOKENS) - expected).max() > 0.01
    for to in ("peft", "mlx-lm"):
        out = export_run(run.path, to, tmp_path / to, root=tmp_path)
        if to == "mlx-lm":  # which has one rank for all modules
            factors: Any = mx.load(str(out / "adapters.safetensors"))
            assert len({f.shape[1] for name, f in factors.items() if name.endswith("a")}) == 1
        again = read_published(base)
        read_adapter(again, out)
        other: Any = again.model
        assert mx.abs(other(TOKENS) - expected).max() < 1e-5
    merged, fidelity = fuse(run.path, "merged", root=tmp_path)
    after: Any = load(merged.path)[0]
    assert mx.abs(after(TOKENS) - expected).max() < 1e-4
    assert fidelity.changed == 0.0
    assert "adapt" not in RunFolder(merged.path).recipe.read_text().splitlines()
    with pytest.raises(MlxtError, match="mlxt fuse"):
        export_run(run.path, "hf", tmp_path / "hf", root=tmp_path)


def test_a_scale_of_one_module_is_read_from_its_pattern(base: Path, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "adapter", alpha_pattern={"down_proj": 9})
    table = read_adapter(read_published(base), folder).table
    assert (table["alpha"], table["alphas"]) in (
        (6.0, {"stack.blocks.1.ffn.down": 9.0}),
        (9.0, {"stack.blocks.1.mixer.q": 6.0}),
    )


@pytest.mark.parametrize(
    ("family", "published", "own"),
    [
        ("gptj", "transformer.h.1.attn.q_proj", "model.h.1.attn.q_proj"),
        ("gpt2", "transformer.wte", "model.wte"),
        ("gpt_neox", "gpt_neox.layers.0.mlp.dense_h_to_4h", "model.h.0.mlp.dense_h_to_4h"),
        ("gpt_neox", "gpt_neox.embed_in", "model.embed_in"),
        ("gpt_neox", "embed_out", "model.embed_out"),
        ("llama", "model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
    ],
)
def test_adapters_name_modules_as_mlx_lm_does(family: str, published: str, own: str) -> None:
    assert MLX_LM[family].module(published) == own
    assert MLX_LM[family].published(own) == published


def test_mlx_lm_has_no_place_for_updates_of_some_modules(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MlxtError, match=r"kv_b_proj apart .* --to peft"):
        MLX_LM["deepseek_v3"].module("model.layers.1.self_attn.kv_b_proj")
    tied = tmp_path / "tied"
    tied.mkdir()
    (tied / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    tensors: Any = mx.load(str(base / "model.safetensors"))
    write_tensors(tied, {n: array for n, array in tensors.items() if n != "lm_head.weight"})
    folder = peft_folder(tmp_path / "adapter")
    weights = str(folder / "adapter_model.safetensors")
    head = "base_model.model.lm_head"
    factors = {f"{head}.lora_A.weight": drawn(2, DIM), f"{head}.lora_B.weight": drawn(VOCAB, 2)}
    found: Any = mx.load(weights)
    mx.save_safetensors(weights, {**found, **factors})
    run = import_run(tied, "adapted", tmp_path, lambda _: None, adapter=folder)
    with pytest.raises(MlxtError, match=r"base ties it, .* mlxt fuse, .* --to peft"):
        export_run(run.path, "mlx-lm", tmp_path / "mlx-lm", root=tmp_path)
    assert export_run(run.path, "peft", tmp_path / "peft", root=tmp_path).is_dir()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"lora_bias": True}, "lora_bias"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"peft_type": "BOFT"}, "BOFT"),
    ],
    ids=str,
)
def test_what_is_not_built_is_refused_by_name(
    base: Path, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    folder = peft_folder(tmp_path / "adapter", **options)
    with pytest.raises(MlxtError, match=word):
        read_adapter(read_published(base), folder)


VIRTUAL = {"num_virtual_tokens": 3, "num_layers": 2, "num_transformer_submodules": 1}
VECTORS: dict[str, dict[str, Any]] = {
    "ia3": {
        "peft_type": "IA3",
        "target_modules": ["k_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
    },
    "prompt": VIRTUAL | {"peft_type": "PROMPT_TUNING", "token_dim": DIM, "num_attention_heads": 4},
    "prefix": VIRTUAL | {"peft_type": "PREFIX_TUNING", "token_dim": 8, "num_attention_heads": 2},
}


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_peft_come_back_as_they_were(base: Path, tmp_path: Path, kind: str) -> None:
    mx.random.seed(2)
    folder = tmp_path / "adapter"
    folder.mkdir()
    module = "base_model.model.model.layers.1"
    tensors = {
        "ia3": {
            f"{module}.self_attn.k_proj.ia3_l": drawn(8, 1),
            f"{module}.mlp.down_proj.ia3_l": drawn(1, WIDE),
        },
        "prompt": {"prompt_embeddings": drawn(3, DIM)},
        "prefix": {"prompt_embeddings": drawn(3, 2 * 2 * 8)},
    }[kind]
    (folder / "adapter_config.json").write_text(json.dumps(VECTORS[kind]))
    mx.save_safetensors(str(folder / "adapter_model.safetensors"), tensors)
    run = import_run(base, "adapted", tmp_path, lambda _: None, adapter=folder)
    out = export_run(run.path, "peft", tmp_path / "peft", root=tmp_path)
    found = mx.load(str(out / "adapter_model.safetensors"))
    assert found.keys() == tensors.keys()
    assert all(mx.array_equal(found[name], array) for name, array in tensors.items())
    config = json.loads((out / "adapter_config.json").read_text())
    names = ("target_modules", "feedforward_modules")
    assert {k: v for k, v in VECTORS[kind].items() if k not in names}.items() <= config.items()
    if kind == "ia3":
        assert config["feedforward_modules"] == ["model.layers.1.mlp.down_proj"]
    with pytest.raises(MlxtError, match=f"'{kind}' aren't written with --to mlx-lm"):
        export_run(run.path, "mlx-lm", tmp_path / "mlx-lm", root=tmp_path)
