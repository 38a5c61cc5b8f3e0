"""`mlxt quantize` and `mlxt prune`, and training with rounded and with pruned weights."""

import shlex
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from cli.conftest import Mlxt
from mlx_transformers.assembly.saved import load
from mlx_transformers.compress.capture import weight_layers
from mlx_transformers.compress.unstructured import zeros
from mlx_transformers.layers.linear import matrix
from mlx_transformers.layers.packed import packed_layers
from mlx_transformers.ops.packed import Packing
from mlx_transformers.verbs import export_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs of this file, trained once."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def source(home: Path, trained: Path, mlxt: Mlxt) -> str:
    """A run of 32 dimensions."""
    text = (home / "tiny.toml").read_text().replace("dim = 16", "dim = 32")
    (home / "tiny.toml").write_text(text.replace("hidden_dim = 24", "hidden_dim = 32"))
    if not (trained / "src").exists():
        assert mlxt("train", "tiny.toml", "--name", "src").code == 0
        shutil.copytree(home / "runs" / "src", trained / "src")
    else:
        shutil.copytree(trained / "src", home / "runs" / "src")
    return "src"


def test_a_run_is_quantized_opened_and_exported(source: str, home: Path, mlxt: Mlxt) -> None:
    for method in ("plain", "gptq", "awq", "mixed"):
        options = ("--bits", "4", "--group-size", "32", "--method", method)
        done = mlxt("quantize", source, "--name", method, *options)
        assert done.code == 0, done.err
        assert "KL from the source" in done.out
    mixed = ("--group-size", "32", "--method", "mixed", "--layer", "*.k=4")
    for options in (("--mode", "mxfp4", "--layer", "*.q=8::mxfp8"), mixed):
        done = mlxt("quantize", source, "--name", options[1], *options)
        assert done.code == 0, done.err
    modes, bits = (
        {path: how for path, _, how in packed_layers(load(name)[0])} for name in ("mxfp4", "32")
    )
    assert modes["stack.blocks.0.mixer.q"] == Packing(8, 32, "mxfp8")
    assert modes["stack.blocks.0.mixer.k"] == Packing(4, 32, "mxfp4")
    assert bits["stack.blocks.0.mixer.k"] == Packing(4, 32)
    model, _ = load("gptq")
    assert all(how.group_size == 32 for _, _, how in packed_layers(model))
    assert mlxt("generate", "--run", "mixed", "--prompt", "the", "--max-tokens", "2").code == 0
    assert mlxt("eval", "awq", "--batches", "1").code == 0
    assert mlxt("export", "gptq", "--to", "mlx-lm", "--out", "out").code == 0
    assert "model.layers.0.mlp.up_proj.scales" in mx.load(str(home / "out/model.safetensors"))


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--bits", "7"), "take 2, 3, 4, 5, 6 or 8"),
        (("--bits", "4", "--group-size", "64"), "groups of 32"),
        (("--group-size", "32", "--layer", "nope=8"), "no layer"),
        (("--group-size", "32", "--calibrate", "short.txt"), "--calibrate FILE"),
        (("--method", "gtpq"), "gptq"),
        (("--mode", "mxfp4", "--bits", "8"), "mxfp4 has 4 bits in groups of 32, not 8"),
        (("--group-size", "32", "--layer", "*.q=4:64:mxfp4"), "--layer *.q=4:64:mxfp4: MLX has no"),
        (("--group-size", "32", "--method", "mixed", "--budget", "0"), "0.00 bits per weight"),
        (("--group-size", "32", "--method", "mixed", "--layer", "*=4"), "chooses no bits"),
    ],
)
def test_what_cannot_be_quantized_has_a_cure_and_leaves_nothing(
    source: str, home: Path, mlxt: Mlxt, options: tuple[str, ...], cure: str
) -> None:
    (home / "short.txt").write_text("too short")
    done = mlxt("quantize", source, "--name", "new", *options)
    assert done.code == 1
    assert cure in done.err
    assert not (home / "runs" / "new").exists()


def test_single_weights_go_and_stay_away(source: str, mlxt: Mlxt) -> None:
    for method in ("magnitude", "wanda", "sparsegpt"):
        done = mlxt("prune", source, "--name", method, "--method", method, "--sparsity", "0.5")
        assert done.code == 0, done.err
        share = zeros(weight_layers(load(method)[0]))
        assert share == pytest.approx(0.5, abs=0.02)
    assert mlxt("finetune", "wanda", "tiny.toml", "--name", "on").code == 0
    before, after = (weight_layers(load(name)[0]) for name in ("wanda", "on"))
    for path, layer in before.items():
        old, new = np.array(matrix(layer)), np.array(matrix(after[path]))
        assert not new[old == 0].any()
        assert not np.array_equal(old, new)


def test_structured_pruning_leaves_a_smaller_model(source: str, mlxt: Mlxt) -> None:
    done = mlxt("prune", source, "--name", "less", "--hidden", "16", "--anyway")
    assert done.code == 0, done.err
    assert load("less")[0].stack.blocks[0].ffn.up.weight.shape[0] == 16  # type: ignore[attr-defined]
    further = shlex.split(done.out.rpartition("further: ")[2])
    assert further[0] == "mlxt"
    assert mlxt(*further[1:], "--steps", "1").code == 0
    done = mlxt("prune", source, "--name", "thin", "--dim", "16", "--heads", "1", "--anyway")
    assert done.code == 0, done.err
    thin, whole = (dict(tree_flatten(load(name)[0].parameters())) for name in ("thin", source))
    assert thin["norm.weight"].shape == (16,)
    columns = [
        i for i in range(32) if mx.any(mx.all(whole["embed.table.weight"][:, i : i + 1]
        == thin["embed.table.weight"], axis=0)).item()
    ]  # fmt: skip
    assert len(columns) == 16
    up = "stack.blocks.0.ffn.up.weight"
    assert mx.array_equal(thin[up], whole[up][:, mx.array(columns)])
    assert mlxt("generate", "--run", "thin", "--prompt", "the", "--max-tokens", "2").code == 0
    done = mlxt("prune", source, "--dim", "32")
    assert "the model is 32 wide; keep fewer" in done.err
    done = mlxt("prune", source, "--name", "none", "--heads", "0")
    assert done.code == 1
    assert "at least 1" in done.err


def test_what_pruning_leaves_is_rewound(source: str, home: Path, mlxt: Mlxt) -> None:
    assert mlxt("train", "tiny.toml", "--name", "long", "--set", "checkpoint.every=1").code == 0
    how = ("--sparsity", "0.5", "--anyway", "--rewind")
    done = mlxt("prune", "long", "--name", "ticket", *how, "2")
    assert done.code == 0, done.err
    early, late, found = (
        weight_layers(load(name)[0])
        for name in (str(home / "runs/long/checkpoints/step-000002"), "long", "ticket")
    )
    for path in found:
        ticket, first, last = (np.array(matrix(each[path])) for each in (found, early, late))
        kept = ticket != 0
        assert np.array_equal(ticket[kept], first[kept])
        assert not np.array_equal(ticket[kept], last[kept])
        assert np.abs(last[kept]).min() >= np.abs(last[~kept]).max(), "the mask is the last one's"
    done = mlxt("prune", source, *how, "77")
    assert "no checkpoint of step 77; there are" in done.err
    done = mlxt("prune", source, "--hidden", "16", "--rewind", "1")
    assert "--rewind goes with" in done.err


def test_a_quantized_run_is_changed_before_it_is_quantized(source: str, mlxt: Mlxt) -> None:
    assert mlxt("quantize", source, "--name", "q", "--group-size", "32", "--anyway").code == 0
    for verb, *options in (
        ("prune", "--sparsity", "0.5"),
        ("grow", "--layers", "3"),
        ("upcycle", "--experts", "4"),
    ):
        done = mlxt(verb, "q", *options)
        assert done.code == 1
        assert f"q is quantized: {verb} the model that it was made of" in done.err


def test_a_run_with_adapters_is_fused_before_it_is_changed(source: str, mlxt: Mlxt) -> None:
    adapt = ("--set", 'adapt={kind="lora", rank=2, targets=["all"]}')
    assert mlxt("finetune", source, "tiny.toml", "--name", "lora", *adapt).code == 0
    for verb, *options in (
        ("quantize", "--group-size", "32"),
        ("prune", "--hidden", "16"),
        ("grow", "--layers", "3"),
        ("upcycle", "--experts", "4"),
    ):
        done = mlxt(verb, "lora", *options)
        assert done.code == 1
        assert "lora has adapters" in done.err
        assert "`mlxt fuse lora`" in done.err


def test_a_sparse_run_is_quantized_without_its_masks(source: str, mlxt: Mlxt) -> None:
    sets = ("--set", "sparse={sparsity=0.5, every=1}")
    assert mlxt("train", "tiny.toml", "--name", "sparse", *sets).code == 0
    done = mlxt("quantize", "sparse", "--name", "q", "--group-size", "32", "--anyway")
    assert done.code == 0, done.err
    assert mlxt("generate", "--run", "q", "--prompt", "the", "--max-tokens", "2").code == 0


def test_training_rounds_and_prunes(source: str, mlxt: Mlxt) -> None:
    sets = ("--set", "quantize.bits=4", "--set", "quantize.group_size=32")
    more = ("--set", "prune.sparsity=0.5", "--set", "prune.end=0.5")
    done = mlxt("train", "tiny.toml", "--name", "qat", *sets, *more)
    assert done.code == 0, done.err
    assert zeros(weight_layers(load("qat")[0])) == pytest.approx(0.5, abs=0.02)


def test_an_export_is_read_again_and_refused_where_it_is_another_model(
    source: str, home: Path, mlxt: Mlxt, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = mlxt("export", source, "--out", "same")
    assert done.code == 0, done.err
    assert "KL from the source 0.0000" in done.out
    assert "perplexity" in done.out
    plain = export_run.in_range
    monkeypatch.setattr(export_run, "in_range", lambda *args: 20 * plain(*args))
    done = mlxt("export", source, "--out", "other")
    assert done.code == 1
    assert "--anyway" in done.err
    assert not (home / "other").exists()
    assert mlxt("export", source, "--out", "other", "--anyway").code == 0
    assert (home / "other" / "config.json").is_file()
