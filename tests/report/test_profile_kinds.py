"""A profile measures the layers of every model kind, through its towers."""

from pathlib import Path

import mlx.core as mx
import pytest

from mlx_transformers.assembly.build import build
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.profile.decoding import decodings
from mlx_transformers.profile.measure import measure_blocks

CHAR = 'data.tokenizer={kind="char"}'
TEXT = ("data.path=text.txt", CHAR)
PAIRS = ("data.path=pairs.tsv", CHAR)
BLOCK = "attention + cross_attention + mlp"
KINDS = {
    "encoder_decoder/t5_tiny": (
        (*TEXT, "model.max_seq_len=64"),
        {"encoder block": (2, "attention + mlp"), "decoder block": (2, BLOCK)},
    ),
    "encoders/electra_tiny": (
        TEXT,
        {"generator block": (4, "attention + mlp"), "discriminator block": (4, "attention + mlp")},
    ),
    "recurrent/lstm_lm_tiny": (TEXT, {"layer": (1, "lstm"), "layer 1": (1, "lstm")}),
    "seq2seq/bahdanau_tiny": (PAIRS, {"encoder layer": (1, "gru"), "decoder layer": (1, "gru")}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_model_kind_is_profiled_by_its_towers(name: str, home: Path) -> None:
    sets, expected = KINDS[name]
    lines = ["one two\tdos unos", "three one\ttres uno", "two two\tdos dos"] * 20
    (home / "pairs.tsv").write_text("\n".join(["source\ttarget", *lines]) + "\n")
    mx.disable_compile()
    try:
        built = build(load_recipe(name, [*sets, "train.batch_size=2", "train.seq_len=16"]))
        found = measure_blocks(built, rounds=1)
    finally:
        mx.enable_compile()
    assert {b.part: (b.count, b.kind) for b in found if b.whole} == expected
    assert len({b.part for b in found}) == len(found)
    assert all(b.forward_s.median > 0 and b.share > 0 for b in found)
    if "causal_lm" not in built.model.tasks:
        assert decodings(built.model, 1e9, rounds=1) == []
