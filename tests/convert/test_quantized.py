"""Quantized tensors are decoded by their scales, or refused by dtype and name."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_transformers.assembly.published import read_published
from mlx_transformers.assembly.saved import load
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.quantized import decoded, rescaled
from mlx_transformers.core.context import Context
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.layers.packed import packed_layers
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.import_run import import_run

from .published import write

W = "model.layers.0.mlp.up_proj.weight"


def decode(tensors: dict[str, mx.array], **settings: Any) -> dict[str, mx.array]:
    config = HfConfig({"model_type": "llama", "quantization_config": settings})
    found = decoded(tensors, config)
    assert "quantization_config" not in config.data
    return found


def test_scales_of_a_tensor_a_row_and_a_block() -> None:
    weight = mx.random.normal((200, 300))
    one = mx.array([0.5])
    rows = mx.random.uniform(shape=(200, 1))
    blocks = mx.random.uniform(shape=(2, 3))
    spread = np.repeat(np.repeat(np.array(blocks), 128, 0), 128, 1)[:200, :300]
    for scale, full in ((one, 0.5), (rows, rows), (rows.reshape(200), rows), (blocks, spread)):
        assert np.allclose(rescaled(weight, scale), np.array(weight) * np.array(full))
    small = mx.random.uniform(shape=(4, 5))
    spread = np.repeat(np.repeat(np.array(small), 50, 0), 60, 1)
    assert np.allclose(rescaled(weight, small, (50, 60)), np.array(weight) * spread)
    with pytest.raises(ValueError, match="doesn't fit"):
        rescaled(weight, mx.ones((7, 3)), (128, 128))


@pytest.mark.parametrize("scale", ["weight_scale_inv", "weight_scale"])
def test_8_bit_floats_are_multiplied_by_their_scales(scale: str) -> None:
    weight = mx.from_fp8(mx.to_fp8(mx.random.normal((256, 128))), mx.bfloat16)
    factors = mx.random.uniform(shape=(2, 1))
    name = W.replace("weight", scale)
    found = decode(
        {W: weight, name: factors, W.replace("weight", "input_scale"): mx.ones(1)},
        quant_method="fp8",
        weight_block_size=[128, 128],
    )
    assert found.keys() == {W}
    want = np.array(weight.astype(mx.float32)) * np.repeat(np.array(factors), 128, 0)
    assert np.allclose(found[W], want)


def test_integers_with_scales_are_decoded() -> None:
    q = mx.array(np.random.default_rng(0).integers(-128, 128, (4, 6)), mx.int8)
    scale = mx.array([0.5, 1.0, 2.0, 4.0])
    want = np.array(q).astype(np.float32) * np.array(scale)[:, None]
    by_row = decode({W: q, W + "_scale": scale[:, None]}, quant_method="compressed-tensors")
    shifted = decode({W: q, W + "_scale": scale[:, None], W + "_zero_point": mx.full((4, 1), 3)})
    int8 = decode({W: q, W.replace("weight", "SCB"): scale * 127}, quant_method="bitsandbytes")
    assert np.allclose(by_row[W], want)
    assert np.allclose(int8[W], want)
    assert np.allclose(shifted[W], want - 3 * np.array(scale)[:, None])


@pytest.mark.parametrize(("bits", "group"), [(4, 64), (8, 32), (2, 128)])
def test_packed_matrices_of_mlx_are_decoded(bits: int, group: int) -> None:
    dense = mx.random.normal((8, 256))
    packed = dict(zip(("weight", "scales", "biases"), mx.quantize(dense, group, bits), strict=True))
    module = W.removesuffix("weight")
    config = HfConfig({"model_type": "llama", "quantization": {"group_size": group, "bits": bits}})
    found = decoded({module + part: array for part, array in packed.items()}, config)
    want = mx.dequantize(*packed.values(), group_size=group, bits=bits)
    assert found.keys() == {W}
    assert np.allclose(found[W], want, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "tensor", "dtype"),
    [
        ("gptq", "model.layers.0.mlp.up_proj.qweight", mx.int32),
        ("awq", "model.layers.0.mlp.up_proj.qweight", mx.int32),
        ("bitsandbytes", W + ".quant_state.bitsandbytes__nf4", mx.uint8),
        ("compressed-tensors", W + "_packed", mx.int32),
        ("mxfp4", "model.layers.0.mlp.experts.gate_up_proj_blocks", mx.uint8),
        ("hqq", "model.layers.0.mlp.up_proj.W_q", mx.uint8),
        ("eetq", W, mx.int8),
    ],
)
def test_other_packings_are_refused_by_method_tensor_and_dtype(
    method: str, tensor: str, dtype: mx.Dtype
) -> None:
    short = str(dtype).removeprefix("mlx.core.")
    with pytest.raises(ConvertError, match=rf"{tensor} .*{short}.*{method}.*unquantized"):
        decode({tensor: mx.zeros((2, 4), dtype)}, quant_method=method)


def test_a_quantized_folder_becomes_a_plain_run_that_exports(tmp_path: Path) -> None:
    source = write(tmp_path / "model", "llama")
    tensors = dict(mx.load(str(source / "model.safetensors")))
    mx.eval(tensors)
    name = "model.layers.0.mlp.up_proj.weight"
    packed = dict(
        zip(("weight", "scales", "biases"), mx.quantize(tensors[name], 32, 8), strict=True)
    )
    module = name.removesuffix("weight")
    changed = tensors | {module + part: array for part, array in packed.items()}
    mx.save_safetensors(str(source / "model.safetensors"), changed)
    config = json.loads((source / "config.json").read_text())
    quantization = {"group_size": 32, "bits": 8}
    config |= {"quantization": quantization, "quantization_config": quantization}
    (source / "config.json").write_text(json.dumps(config | {"dtype": "float8_e4m3fn"}))
    run = import_run(source, root=tmp_path / "runs")
    out = export_run(run.path, "hf", tmp_path / "out")
    written = json.loads((out / "config.json").read_text())
    assert not {"quantization", "quantization_config"} & written.keys()
    assert written["dtype"] == "float32"
    found = mx.load(str(out / "model.safetensors"))
    assert np.abs(np.array(found[name]) - np.array(tensors[name])).max() < 0.05


def packed_folder(folder: Path) -> Path:
    """A tiny LLaMA as mlx-lm quantizes: 4 bits, 8 in one layer, floats in another, two plain."""
    source = write(folder, "llama")
    tensors = dict(mx.load(str(source / "model.safetensors")))
    mx.eval(tensors)
    own = {"model.embed_tokens": 8, "model.layers.1.mlp.up_proj": 3}
    plain = ("down_proj", "o_proj")  # 40 and 48 inputs
    usual: dict[str, object] = {"group_size": 32, "bits": 4, "mode": "affine"}
    table = dict(usual)
    for name in [n for n in tensors if n.endswith(("_proj.weight", "embed_tokens.weight"))]:
        module = name.removesuffix(".weight")
        if module.endswith(plain):
            continue
        how: dict[str, object] = {"group_size": 32, "bits": own.get(module, 4), "mode": "affine"}
        if module.endswith("v_proj"):
            how = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
        if how != usual:
            table[module] = how
        array = tensors.pop(name).astype(mx.bfloat16)
        parts = mx.quantize(array, **how)  # type: ignore[arg-type]
        tensors |= zip((f"{module}.{p}" for p in ("weight", "scales", "biases")), parts)  # noqa: B905
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"quantization": table}))
    return source


def test_a_folder_of_mlx_lm_stays_packed_and_leaves_as_it_came(tmp_path: Path) -> None:
    source = packed_folder(tmp_path / "model")
    run = import_run(source, root=tmp_path / "runs")
    model, _ = load(run.path)
    plain = read_published(source).model
    batch = {"tokens": mx.array([[1, 2, 3, 4]])}
    outputs = [m.hidden(m.embedded(batch, Context()), Context()) for m in (model, plain)]
    assert mx.allclose(*outputs, atol=1e-5)
    assert sum(1 for _ in packed_layers(model)) == 11
    out = export_run(run.path, "mlx-lm", tmp_path / "out")
    before = mx.load(str(source / "model.safetensors"))
    after = mx.load(str(out / "model.safetensors"))
    packed = [name for name in before if name.endswith(("scales", "biases")) or "v_proj" in name]
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in packed)
    table = json.loads((out / "config.json").read_text())["quantization"]
    assert table == json.loads((source / "config.json").read_text())["quantization"]


def test_gptq_and_awq_files_hold_their_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes, zeros = rng.integers(0, 16, (16, 8)), rng.integers(1, 9, (2, 8))
    scales = rng.random((2, 8)).astype(np.float32)
    want = (scales[np.arange(16) // 8] * (codes - zeros[np.arange(16) // 8])).T
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def words(values: np.ndarray) -> mx.array:
        places = 4 * np.arange(8, dtype=np.uint32)
        grouped = values.reshape(*values.shape[:-1], -1, 8).astype(np.uint32)
        return mx.array((grouped << places).sum(axis=-1).astype(np.uint32).view(np.int32))

    files = {
        "gptq": {"qweight": words(codes.T).T, "qzeros": words(zeros - 1)},
        "awq": {"qweight": words(codes[:, order]), "qzeros": words(zeros[:, order])},
    }
    for method, parts in files.items():
        named = {f"m.{name}": array for name, array in parts.items()}
        found = decode(named | {"m.scales": mx.array(scales)}, quant_method=method, bits=4)
        np.testing.assert_allclose(np.array(found["m.weight"]), want, atol=1e-6)


def test_mxfp4_experts_become_floats() -> None:
    dense = mx.random.normal((2, 6, 64), key=mx.random.key(0))
    words, scales = mx.quantize(dense, 32, 4, "mxfp4")
    blocks = words.view(mx.uint8).reshape(2, 6, 2, 16)
    found = decode({"e.gate_blocks": blocks, "e.gate_scales": scales}, quant_method="mxfp4")
    want = mx.dequantize(words, scales, None, 32, 4, "mxfp4", dtype=mx.float32)
    assert mx.array_equal(found["e.gate"], want.swapaxes(1, 2))
