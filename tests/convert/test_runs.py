"""Published folders become runs and go out again as they came in; own runs go out too."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from model_outputs import outputs

from mlx_transformers.assembly.published import (
    full_model_table,
    published,
    read_published,
    typed_model,
)
from mlx_transformers.assembly.recipe import load_recipe
from mlx_transformers.assembly.saved import load
from mlx_transformers.convert import checkpoint
from mlx_transformers.convert.checkpoint import read_tensors
from mlx_transformers.convert.config import HfConfig
from mlx_transformers.convert.families.gpt2 import GPT2
from mlx_transformers.convert.match import match
from mlx_transformers.convert.weights import to_theirs
from mlx_transformers.core.errors import ConvertError, MlxtError, RunError
from mlx_transformers.decode.generate import generate
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.runs.folder import find_checkpoint
from mlx_transformers.verbs.evaluate import evaluate
from mlx_transformers.verbs.export_run import export_run, parameters
from mlx_transformers.verbs.import_run import import_run

from .published import CONFIGS, write

RECIPES = Path(__file__).parents[2] / "recipes"


def raw(folder: Path) -> dict[str, bytes]:
    return {
        name: bytes(memoryview(array.view(mx.uint8)))
        for name, array in read_tensors(folder).items()
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_comes_in_goes_out_byte_for_byte(name: str, dtype: str, tmp_path: Path) -> None:
    source = write(tmp_path / "model", name, dtype)
    run = import_run(source, root=tmp_path / "runs")
    out = export_run(run.path, "hf", tmp_path / "out")
    assert raw(out) == raw(source)
    was, now = (json.loads((folder / "config.json").read_text()) for folder in (source, out))
    assert was.items() <= now.items()
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / file).read_bytes() == (source / file).read_bytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_is_said_without_the_config_it_came_with(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / "model", name)
    run = import_run(source, root=tmp_path / "runs")
    (run.path / "config.json").unlink()
    out = export_run(run.path, "hf", tmp_path / "out")
    assert raw(out) == raw(source)
    tokens = mx.array([[1, 5, 200, 3, 9, 9, 7, 30]])
    one, two = (read_published(folder).model(tokens) for folder in (source, out))
    assert mx.array_equal(one, two)


def test_shards_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "model", "llama")
    run = import_run(source, root=tmp_path / "runs")
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 30_000)
    out = export_run(run.path, "hf", tmp_path / "out")
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert raw(out) == raw(source)
    path = out / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["other.weight"] = min(index["weight_map"].values())
    path.write_text(json.dumps(index))
    with pytest.raises(ConvertError, match=r"'other.weight', which its file model-00001.* lacks"):
        read_tensors(out)
    next(iter(out.glob("model-00002*"))).unlink()
    with pytest.raises(ConvertError, match="names the file model-00002"):
        read_tensors(out)


def test_an_imported_run_generates_and_is_measured(tmp_path: Path) -> None:
    source = write(tmp_path / "model", "llama")
    run = import_run(source, root=tmp_path / "runs")
    model, tokenizer = load(run.path)
    assert tokenizer.eos_id == 256
    greedy = {"max_tokens": 8, "sampling": Sampling(temp=0.0)}
    said = generate(model, tokenizer, "abc", **greedy)
    assert said == generate(read_published(source).model, tokenizer, "abc", **greedy) != ""
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 200)
    text = run.recipe.read_text().replace('corpus = "stdlib"', f'path = "{tmp_path}/text.txt"')
    run.recipe.write_text(text.replace("[eval]", "[eval]\nbatches = 1"))
    _, values = evaluate(run.path, 1)
    assert values["val_tokens"] > 0


def test_a_run_is_never_overwritten_and_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    source, root = write(tmp_path / "model", "gpt2"), tmp_path / "runs"
    assert import_run(source, "x", root).name == "x"
    with pytest.raises(RunError, match="exists already"):
        import_run(source, "x", root)
    assert import_run(source, root=root).name == "model"
    assert import_run(source, root=root).name == "model-2"
    export_run(root / "x", "hf", tmp_path / "out")
    with pytest.raises(ConvertError, match="exists already"):
        export_run(root / "x", "hf", tmp_path / "out")
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(MlxtError, match="tokenizer"):
        import_run(source, "y", root)
    assert not (root / "y").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pytorch_model.bin", b"\x80\x02", "is a pickle"),
        ("model.safetensors", b"\x00" * 20, "not a whole safetensors file"),
        ("model.safetensors.index.json", b"{}", "weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "names no tensor"),
        ("other.txt", b"", "has no model.safetensors"),
    ],
)
def test_folders_without_readable_weights(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "model", "gpt2")
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(content)
    with pytest.raises(ConvertError, match=said):
        read_published(source)


def whole(recipe: str, vocab_size: int = 99) -> dict[str, Any]:
    return full_model_table(load_recipe(RECIPES / f"{recipe}.toml").model, vocab_size)


def settle(table: dict[str, Any]) -> dict[str, Any]:
    return full_model_table(typed_model(table, "x"), table["vocab_size"])


@pytest.mark.parametrize(
    ("recipe", "architecture"),
    [
        ("gpt2_tiny", "GPT2LMHeadModel"),
        ("shakespeare_char/gpt2", "GPT2LMHeadModel"),
        ("llama_tiny", "LlamaForCausalLM"),
        ("mistral_tiny", "MistralForCausalLM"),
        ("mixtral_tiny", "MixtralForCausalLM"),
        ("decoders/bloom_tiny", "BloomForCausalLM"),
        ("decoders/cohere_tiny", "CohereForCausalLM"),
        ("decoders/deepseek_tiny", "DeepseekV3ForCausalLM"),
        ("decoders/falcon_tiny", "FalconForCausalLM"),
        ("decoders/gemma2_tiny", "Gemma2ForCausalLM"),
        ("decoders/gemma3_tiny", "Gemma3ForCausalLM"),
        ("decoders/gpt1_tiny", "OpenAIGPTLMHeadModel"),
        ("decoders/gpt_neo_tiny", "GPTNeoForCausalLM"),
        ("decoders/gpt_neox_tiny", "GPTNeoXForCausalLM"),
        ("decoders/gpt_oss_tiny", "GptOssForCausalLM"),
        ("decoders/gptj_tiny", "GPTJForCausalLM"),
        ("decoders/granite_tiny", "GraniteForCausalLM"),
        ("decoders/mpt_tiny", "MptForCausalLM"),
        ("decoders/olmo2_tiny", "Olmo2ForCausalLM"),
        ("decoders/opt_tiny", "OPTForCausalLM"),
        ("decoders/phi_tiny", "PhiForCausalLM"),
        ("decoders/gemma_tiny", "GemmaForCausalLM"),
        ("decoders/llama3_tiny", "LlamaForCausalLM"),
        ("decoders/qwen2_tiny", "LlamaForCausalLM"),
        ("decoders/qwen2_moe_tiny", "Qwen2MoeForCausalLM"),
        ("decoders/qwen3_tiny", "Qwen3ForCausalLM"),
        ("decoders/qwen3_moe_tiny", "Qwen3MoeForCausalLM"),
        ("efficient/qwen3_next_tiny", "Qwen3NextForCausalLM"),
        ("decoders/stablelm_tiny", "StableLmForCausalLM"),
        ("decoders/smollm3_tiny", "SmolLM3ForCausalLM"),
        ("encoder_decoder/marian_tiny", "MarianMTModel"),
        ("encoder_decoder/pegasus_tiny", "PegasusForConditionalGeneration"),
        ("encoder_decoder/bart_tiny", "BartForConditionalGeneration"),
        ("encoder_decoder/t5_tiny", "T5ForConditionalGeneration"),
        ("encoder_decoder/t5_v11_tiny", "T5ForConditionalGeneration"),
        ("encoders/albert_tiny", "AlbertForPreTraining"),
        ("encoders/deberta_tiny", "DebertaV2ForMaskedLM"),
        ("encoders/fnet_tiny", "FNetForPreTraining"),
    ],
)
def test_the_family_of_our_own_models(recipe: str, architecture: str) -> None:
    _, config = match(whole(recipe), settle)
    assert config.architecture == architecture


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("decoders/gpt3_tiny", r"GPT2LMHeadModel comes nearest, but not in block.mixer.window"),
        ("recurrent/gru_lm_tiny", "of the kind 'recurrent' can't be exported"),
        ("positions/shaw_tiny", "comes nearest, but not in .*'shaw'"),
    ],
)
def test_what_no_family_can_say_is_named(recipe: str, said: str) -> None:
    with pytest.raises(ConvertError, match=said):
        match(whole(recipe), settle)


def test_the_half_of_a_pair_that_judges_is_an_electra() -> None:
    found = load_recipe(RECIPES / "encoders/electra_tiny.toml").model
    pair = found.build(99)
    kind, ours = found.without_helpers(dict(tree_flatten(pair.parameters())))
    table = full_model_table(kind, 99)
    family, config = match(table, settle)
    assert config.architecture == "ElectraForPreTraining"
    theirs = to_theirs(family.weights(config), parameters(ours, table, family, config.data))
    again = published(config, theirs, "x").model
    tokens = mx.array([[1, 5, 20, 3]])
    assert np.allclose(np.array(pair(tokens)), np.array(again(tokens)), atol=1e-6)


def test_a_factor_of_the_scores_goes_into_the_queries_where_a_family_has_none() -> None:
    found = load_recipe(RECIPES / "encoder_decoder/t5_tiny.toml").model
    model, table = found.build(99), full_model_table(found, 99)
    ours = {n: a + 0.1 * mx.random.normal(a.shape) for n, a in tree_flatten(model.parameters())}
    model.update(tree_unflatten(list(ours.items())))
    family, config = match(table, settle)
    theirs = to_theirs(family.weights(config), parameters(ours, table, family, config.data))
    again = published(config, theirs, "x").model
    inputs = {
        "input_ids": np.array([[4, 9, 50, 3, 1]]),
        "decoder_input_ids": np.array([[0, 8, 70, 1]]),
    }
    one, two = (outputs(m, inputs)["logits"] for m in (model, again))
    assert np.abs(one - two).max() < 1e-4
    scales = (
        settle(t)["decoder"]["block"]["mixer"]["scale"] for t in (table, family.model(config))
    )
    assert next(scales) != next(scales)


def test_a_model_that_was_never_published_is_refused_with_what_is_odd() -> None:
    model = load_recipe(RECIPES / "llama_tiny.toml", ["model.block.mixer.softcap=50.0"]).model
    with pytest.raises(ConvertError, match=r"LlamaForCausalLM comes nearest, but not in .*softcap"):
        match(full_model_table(model, 99), settle)


def test_biases_that_only_the_family_has_are_zeros(tmp_path: Path) -> None:
    found = read_published(write(tmp_path / "model", "gpt2"))
    table, config = found.table, found.config.data
    table["block"]["ffn"] |= {"bias": False}
    table["block"]["mixer"] |= {"bias": False, "out_bias": False}
    model = typed_model(table, "x").build(260)
    ours, table = dict(tree_flatten(model.parameters())), settle(table | {"vocab_size": 260})
    theirs = to_theirs(GPT2.weights(HfConfig(config)), parameters(ours, table, GPT2, config))
    assert not theirs["transformer.h.1.mlp.c_fc.bias"].any()
    again = published(HfConfig(config), theirs, "x").model
    tokens = mx.array([[1, 5, 200, 3]])
    assert np.abs(np.array(model(tokens)) - np.array(again(tokens))).max() < 1e-6


@pytest.mark.parametrize("to", ["hf", "mlx-lm"])
def test_numbers_beyond_float16_are_refused_by_name(to: str, tmp_path: Path) -> None:
    source = write(tmp_path / "model", "llama")
    path = source / "model.safetensors"
    tensors = dict(mx.load(str(path)))
    mx.eval(tensors)
    mx.save_safetensors(str(path), tensors | {"model.norm.weight": mx.full((32,), 7e4)})
    run = import_run(source, root=tmp_path / "runs")
    with pytest.raises(ConvertError, match=r"norm.*holds 70,000.*65,504.*--dtype float32"):
        export_run(run.path, to, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()
    assert export_run(run.path, to, tmp_path / "out", dtype="float32").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"companions": ["../../evil.py"]}, "without slashes"),
        ({"companions": ["/etc/hostname"]}, "without slashes"),
        ({"companions": ["config.json"]}, "config.json"),
        ({"companions": ["linked.json"]}, "outside"),
        ({"file": "../../evil.py"}, "outside"),
        ({"file": 3}, "can't be read"),
    ],
)
def test_names_in_a_tokenizer_manifest_stay_in_their_folder(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    run = import_run(write(tmp_path / "model", "llama"), root=tmp_path / "runs")
    (tmp_path / "evil.py").write_text("planted")
    (tmp_path / "runs" / "evil.py").write_text("planted")
    (run.tokenizer / "linked.json").symlink_to(tmp_path / "evil.py")
    (run.tokenizer / "config.json").write_text("{}")
    path = run.tokenizer / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MlxtError, match=said):
        export_run(run.path, "hf", tmp_path / "a" / "b" / "out")
    assert [p for p in sorted(tmp_path.rglob("*")) if p not in before] in (
        [],
        [tmp_path / "a", tmp_path / "a" / "b"],
    )


def test_of_several_imports_of_one_name_one_wins(tmp_path: Path) -> None:
    sources = [write(tmp_path / name, name) for name in ("llama", "gpt2")]
    together = threading.Barrier(4)

    def attempt(number: int) -> str:
        together.wait()
        try:
            run = import_run(sources[number % 2], "x", tmp_path / "runs", say=str)
        except RunError as error:
            return str(error)
        return run.name

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(attempt, range(4)))
    assert said.count("x") == 1
    assert all("x" in sentence for sentence in said)
    winner = sources[said.index("x") % 2]
    model, _ = load(find_checkpoint("x", tmp_path / "runs")[1])
    tokens = mx.array([[1, 2, 3]])
    # GPT-2's matrices are published transposed, so that products add in another order.
    assert mx.allclose(model(tokens), read_published(winner).model(tokens), atol=1e-5)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"x"}


def test_an_import_that_is_killed_between_two_renames_is_taken_over(tmp_path: Path) -> None:
    source = write(tmp_path / "model", "llama")
    run = import_run(source, "x", tmp_path / "runs")
    (run.path / ".importing").mkdir()
    run.recipe.rename(run.path / ".importing" / "recipe.toml")
    again = import_run(source, "x", tmp_path / "runs")
    assert load(again.path)[0] is not None
    assert not (again.path / ".importing").exists()


def test_a_killed_import_is_taken_over(tmp_path: Path) -> None:
    source = write(tmp_path / "model", "llama")
    folder = tmp_path / "runs" / "x" / ".importing" / "tokenizer"
    folder.mkdir(parents=True)
    (folder / "half").write_text("of another")
    run = import_run(source, "x", tmp_path / "runs")
    assert not (run.path / ".importing").exists()
    assert not (run.tokenizer / "half").exists()
