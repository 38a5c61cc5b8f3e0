"""`tools/reference.py` computes cases by their published function and scores them."""

import json
import sys
from pathlib import Path

import mlx.core as mx
import pytest

ROOT = Path(__file__).parents[2]

META = {
    "group": 2,
    "title": "Attention with a sink",
    "source": {"function": "fla.ops.attn.naive.naive_parallel_attn"},
    "options": {"window": None},
    "expected": {name: {} for name in ("o", "grad.q", "loss")},
    "tolerance": {"o": 1e-5, "grad.q": 1e-5, "loss": 1e-5},
}


@pytest.fixture
def tool(load_tool, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return load_tool("reference")


@pytest.fixture
def case(tmp_path):
    """One query and key of one feature, and a sink: `o = v e^(qk) / (e^(qk) + e^sink)`."""
    folder = tmp_path / "case"
    folder.mkdir()
    one = mx.ones((1, 1, 1, 1))
    mx.save_safetensors(
        str(folder / "inputs.safetensors"), {"q": one, "k": one, "v": 2 * one, "cot.o": 3 * one}
    )
    mx.save_safetensors(str(folder / "params.safetensors"), {"sink_bias": mx.zeros(1)})
    share = mx.sigmoid(one)
    mx.save_safetensors(
        str(folder / "expected.safetensors"),
        {"o": 2 * share, "grad.q": 6 * share * (1 - share), "loss": (6 * share).reshape(1)},
    )
    (folder / "meta.json").write_text(json.dumps(META))
    return folder


def scores(tool, monkeypatch, *cases, out):
    monkeypatch.setattr(sys, "argv", ["reference.py", *map(str, cases), "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        tool.main()
    return json.loads((out / "scores.json").read_text()), end.value.code


def test_outputs_gradients_and_loss_are_written_and_compared(tool, monkeypatch, case, tmp_path):
    (score,), code = scores(tool, monkeypatch, case, out=tmp_path)
    assert (score["ok"], score["missing"], not code) == (True, [], True)
    assert set(mx.load(str(tmp_path / "case.safetensors"))) == set(META["expected"])


def test_a_wrong_number_and_an_unknown_function_fail(tool, monkeypatch, case, tmp_path):
    expected = dict(mx.load(str(case / "expected.safetensors")))
    mx.save_safetensors(str(case / "expected.safetensors"), expected | {"o": expected["o"] + 0.01})
    (score,), code = scores(tool, monkeypatch, case, out=tmp_path)
    assert not score["ok"]
    assert code
    assert score["wrong"][0].startswith("o 1.0e-02 > 1.0e-05")
    (case / "meta.json").write_text(json.dumps(META | {"source": {"function": "x"}}))
    (score,), code = scores(tool, monkeypatch, case, out=tmp_path)
    assert "no rule of group 2" in score["error"]


def test_a_case_without_expected_arrays_gets_all_outputs_and_gradients(tool, case):
    (case / "expected.safetensors").unlink()
    (case / "meta.json").write_text(json.dumps({k: v for k, v in META.items() if k != "expected"}))
    got = tool.compute(tool.Case.read(case))
    assert set(got) == {"o", "loss", "grad.q", "grad.k", "grad.v", "grad.sink_bias"}
    assert got["o"].item() == pytest.approx(2 * mx.sigmoid(mx.array(1.0)).item(), rel=1e-6)
