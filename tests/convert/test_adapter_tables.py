"""Updates of tables, and of layers that are named like them, in PEFT's and mlx-lm's folders."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.assembly.adapted import read_adapter
from mlx_transformers.assembly.published import read_published, typed_model
from mlx_transformers.assembly.saved import load
from mlx_transformers.convert.adapters.layout import Factors, Layout
from mlx_transformers.convert.adapters.writing import peft_low_rank, published_modules
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.family import read
from mlx_transformers.convert.registry import family_of
from mlx_transformers.layers.adapters.weights import plain_weights, tables
from mlx_transformers.verbs.export_run import export_run
from mlx_transformers.verbs.import_run import import_run

from .published import write
from .test_adapters import TOKENS, drawn
from .test_peft_parts import saved

BASE = "base_model.model.transformer"
BERT = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 260,
    "embedding_size": 16,
}


@pytest.mark.parametrize("to", ["peft", "mlx-lm"])
def test_an_update_of_positions_is_read_as_it_was_written(tmp_path: Path, to: str) -> None:
    tensors = {
        f"{BASE}.wpe.lora_embedding_A": drawn(2, 64),
        f"{BASE}.wpe.lora_embedding_B": drawn(32, 2),
        f"{BASE}.h.1.mlp.c_fc.lora_A.weight": drawn(2, 32),
        f"{BASE}.h.1.mlp.c_fc.lora_B.weight": drawn(128, 2),
    }
    base = write(tmp_path / "base", "gpt2")
    adapter = saved(tmp_path / "a", tensors, fan_in_fan_out=True)
    run = import_run(base, "run", tmp_path, lambda _: None, adapter=adapter)
    out = export_run(run.path, to, tmp_path / "out", root=tmp_path)
    again: Any = read_adapter(read_published(base), out).base.model
    model: Any = load(run.path)[0]
    plain: Any = read_published(base).model
    assert mx.abs(again(TOKENS) - model(TOKENS)).max() < 1e-5
    assert mx.abs(plain(TOKENS) - model(TOKENS)).max() > 0.01


@pytest.mark.parametrize(
    ("config", "path", "module", "table"),
    [
        (
            {"model_type": "ctrl", "n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 260},
            "embed.table",
            "transformer.w",
            True,
        ),
        (BERT | {"model_type": "electra"}, "embed.project", "electra.embeddings_project", False),
    ],
    ids=["ctrl", "electra"],
)
def test_a_table_is_told_from_a_layer_by_its_module_not_its_name(
    config: dict[str, Any], path: str, module: str, table: bool
) -> None:
    family = family_of(HfConfig(config))
    data, rows = read(family, HfConfig(config))
    model = typed_model(data, module).build(260)
    shapes = {name: array.shape for name, array in plain_weights(model).items()}
    layout = Layout.of(family, rows, shapes, tables=tables(model))
    out, width = shapes[f"{path}.weight"]
    modules = published_modules(layout, {path: Factors(drawn(2, width), drawn(out, 2), 1.0)})
    written = peft_low_rank(modules, dora=False, rslora=False, conv1d=False, dropout=0.0)
    a, b = ("embedding_A", "embedding_B") if table else ("A.weight", "B.weight")
    assert set(written.tensors) == {f"base_model.model.{module}.lora_{part}" for part in (a, b)}


def test_whole_weights_of_mlx_lm_are_turned_where_the_family_stores_inputs_first(
    tmp_path: Path,
) -> None:
    """mlx-lm has `[out, in]` of every layer, GPT-2's files `[in, out]`: a square one tells them
    apart by no shape."""
    source = read_published(write(tmp_path / "base", "gpt2"))
    weight, table = drawn(32, 32), drawn(64, 32)
    adapter = tmp_path / "a"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"fine_tune_type": "full", "num_layers": 1}')
    tensors = {"h.1.attn.c_proj.weight": weight, "wpe.weight": table}
    mx.save_safetensors(str(adapter / "adapters.safetensors"), tensors)
    found = plain_weights(read_adapter(source, adapter).base.model)
    assert mx.array_equal(found["stack.blocks.1.mixer.o.weight"], weight)
    assert mx.array_equal(found["position.table.weight"], table)
