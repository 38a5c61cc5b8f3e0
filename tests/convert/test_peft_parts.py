"""PEFT's adapters of tied heads, and trained parts of the base: equal to those of a plain base."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlx_transformers.assembly.adapted import names_head, open_adapter, read_adapter
from mlx_transformers.assembly.published import read_published
from mlx_transformers.convert.adapters.layout import Layout
from mlx_transformers.convert.checkpoint import read_tensors, write_tensors
from mlx_transformers.convert.mtp import COPIES
from mlx_transformers.convert.registry import FAMILIES
from mlx_transformers.core.errors import ConvertError
from mlx_transformers.layers.adapters.weights import plain_weights
from mlx_transformers.verbs.import_run import import_run

from .published import write
from .test_adapters import CONFIG, DIM, MLP, TOKENS, VOCAB, base, drawn

__all__ = ["base"]
HEAD, EMBED = "base_model.model.lm_head", "base_model.model.model.embed_tokens"
TIED = {"tie_word_embeddings": True}
UP = MLP["up_proj"]
FORMS: dict[str, dict[str, tuple[int, int]]] = {
    "head": {f"{HEAD}.lora_A.weight": (2, DIM), f"{HEAD}.lora_B.weight": (VOCAB, 2)},
    "embedding": {f"{EMBED}.lora_embedding_A": (2, VOCAB), f"{EMBED}.lora_embedding_B": (DIM, 2)},
    "whole head": {f"{HEAD}.modules_to_save.default.weight": (VOCAB, DIM)},
    "whole embedding": {f"{EMBED}.weight": (VOCAB, DIM)},
}


@pytest.fixture(scope="module")
def bases(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base whose head is tied to its embedding, and the same with a head of its own."""
    folder = tmp_path_factory.mktemp("bases")
    tensors = dict(read_tensors(base))
    del tensors["lm_head.weight"]
    own = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    for name, arrays, config in (("tied", tensors, CONFIG | TIED), ("own", own, CONFIG)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        write_tensors(folder / name, arrays)
    return folder / "tied", folder / "own"


def saved(at: Path, tensors: dict[str, mx.array], **options: Any) -> Path:
    """A folder of PEFT with these tensors."""
    at.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6} | options
    (at / "adapter_config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(at / "adapter_model.safetensors"), tensors)
    return at


def logits(base: Path, adapter: Path | None) -> mx.array:
    found = read_published(base)
    model: Any = found.model if adapter is None else read_adapter(found, adapter).base.model
    out: mx.array = model(TOKENS)
    return out


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_of_one_of_two_tied_tables_leaves_the_other_alone(
    bases: tuple[Path, Path], tmp_path: Path, form: str
) -> None:
    mx.random.seed(2)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = FORMS[form] | {
        f"{module}.lora_A.weight": (2, DIM),
        f"{module}.lora_B.weight": (DIM, 2),
    }
    adapter = saved(tmp_path / "a", {name: drawn(*shape) for name, shape in shapes.items()})
    found, expected = (logits(base, adapter) for base in bases)
    assert mx.abs(found - expected).max() < 1e-5
    assert mx.abs(found - logits(bases[0], None)).max() > 0.01
    import_run(bases[0], "run", tmp_path, lambda _: None, adapter=adapter)


DELTA = "trainable_tokens_delta"


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (
            [f"{EMBED}.{DELTA}", f"{HEAD}.{DELTA}"],
            {"peft_type": "TRAINABLE_TOKENS", "token_indices": [5, 12]},
        ),
        (
            [f"{EMBED}.token_adapter.{DELTA}"],
            {"trainable_token_indices": {"embed_tokens": [5, 12]}},
        ),
    ],
    ids=["a kind of its own", "beside a LoRA"],
)
def test_trained_tokens_replace_rows_of_a_table_and_of_the_head_tied_to_it(
    bases: tuple[Path, Path], tmp_path: Path, names: list[str], options: dict[str, Any]
) -> None:
    rows = drawn(2, DIM)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    lora = {f"{module}.lora_A.weight": drawn(2, DIM), f"{module}.lora_B.weight": drawn(DIM, 2)}
    tensors = {} if "peft_type" in options else lora
    adapter = saved(tmp_path / "a", tensors | dict.fromkeys(names, rows), **options)
    (tmp_path / "base").mkdir()
    arrays = dict(read_tensors(bases[0]))
    table = mx.array(arrays["model.embed_tokens.weight"])
    table[mx.array([5, 12])] = rows
    if tensors:
        arrays[module.removeprefix("base_model.model.") + ".weight"] += 3.0 * (
            lora[f"{module}.lora_B.weight"] @ lora[f"{module}.lora_A.weight"]
        )
    write_tensors(tmp_path / "base", arrays | {"model.embed_tokens.weight": table})
    (tmp_path / "base/config.json").write_text(json.dumps(CONFIG | TIED))
    assert mx.abs(logits(bases[0], adapter) - logits(tmp_path / "base", None)).max() < 1e-5
    assert mx.abs(logits(bases[0], adapter) - logits(bases[0], None)).max() > 0.01


@pytest.mark.parametrize("token", [99999, -1, VOCAB, 1.5, True], ids=str)
def test_a_trained_token_that_the_table_lacks_is_refused(
    bases: tuple[Path, Path], tmp_path: Path, token: Any
) -> None:
    adapter = saved(
        tmp_path / "a",
        {f"{EMBED}.{DELTA}": drawn(2, DIM)},
        peft_type="TRAINABLE_TOKENS",
        token_indices=[1, token],
    )
    with pytest.raises(ConvertError, match=rf"token {token!r}, .* rows 0 to {VOCAB - 1}"):
        logits(bases[0], adapter)


def test_adalora_is_divided_by_its_rank_before_pruning(base: Path, tmp_path: Path) -> None:
    """`W + alpha / (init_r + 1e-5) B (A ⊙ E)`, as in peft/tuners/adalora/layer.py."""
    tensors: dict[str, mx.array] = {}
    arrays = dict(read_tensors(base))
    for name, (out, width), rank in (("self_attn.q_proj", (DIM, DIM), 2), ("mlp.up_proj", UP, 3)):
        module = f"model.layers.1.{name}"
        a, b, values = drawn(rank, width), drawn(out, rank), drawn(rank, 1)
        named = {"lora_A": a, "lora_B": b, "lora_E": values}
        tensors |= {f"base_model.model.{module}.{part}": array for part, array in named.items()}
        arrays[f"{module}.weight"] += 6 / (4 + 1e-5) * (b @ (a * values))
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/config.json").write_text(json.dumps(CONFIG))
    write_tensors(tmp_path / "merged", arrays)
    adapter = saved(tmp_path / "a", tensors, peft_type="ADALORA", init_r=4, target_r=2)
    assert mx.abs(logits(base, adapter) - logits(tmp_path / "merged", None)).max() < 1e-5
    assert mx.abs(logits(base, adapter) - logits(base, None)).max() > 1e-3


@pytest.mark.parametrize("kind", ["LOHA", "LOKR"])
def test_products_of_low_rank_matrices_are_read_as_lora(
    base: Path, tmp_path: Path, kind: str
) -> None:
    """`W + alpha / r (A B) ∘ (C D)`, or `W + alpha / r A ⊗ (C D)`, as in peft/tuners/loha/layer.py
    and lokr/layer.py."""
    module, (out, width) = "model.layers.1.mlp.up_proj", UP
    if kind == "LOHA":
        parts = {"w1_a": drawn(out, 3), "w1_b": drawn(3, width),
                 "w2_a": drawn(out, 3), "w2_b": drawn(3, width)}  # fmt: skip
        change = (parts["w1_a"] @ parts["w1_b"]) * (parts["w2_a"] @ parts["w2_b"])
    else:
        parts = {"w1": drawn(4, 2), "w2_a": drawn(out // 4, 3), "w2_b": drawn(3, width // 2)}
        change = mx.kron(parts["w1"], parts["w2_a"] @ parts["w2_b"])
    start = "hada" if kind == "LOHA" else "lokr"
    tensors = {f"base_model.model.{module}.{start}_{name}": x for name, x in parts.items()}
    arrays = dict(read_tensors(base))
    arrays[f"{module}.weight"] += 5 / 3 * change
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/config.json").write_text(json.dumps(CONFIG))
    write_tensors(tmp_path / "merged", arrays)
    options = {"r": 6, "alpha": 8, "rank_pattern": {"up_proj": 3}, "alpha_pattern": {"mlp.*": 5}}
    adapter = saved(tmp_path / "a", tensors, peft_type=kind, **options)
    assert mx.abs(logits(base, adapter) - logits(tmp_path / "merged", None)).max() < 1e-5
    assert mx.abs(logits(base, adapter) - logits(base, None)).max() > 1e-3


def test_norms_that_equal_those_of_the_base_are_refused_in_plain_words(
    base: Path, tmp_path: Path
) -> None:
    norm = dict(read_tensors(base))["model.norm.weight"]
    name = "base_model.model.model.norm.ln_tuning_layers.weight"
    adapter = saved(tmp_path / "a", {name: norm}, peft_type="LN_TUNING")
    with pytest.raises(ConvertError, match="numbers of the base; there is nothing to import"):
        logits(base, adapter)


def test_a_module_saved_twice_and_its_untrained_copy_are_one_trained_module(
    base: Path, tmp_path: Path
) -> None:
    trained, norm = drawn(DIM), "base_model.model.model.norm"
    tensors = {
        f"{norm}.weight": trained,
        f"{norm}.modules_to_save.default.weight": trained,
        f"{norm}.original_module.weight": drawn(DIM),
    }
    one = saved(tmp_path / "a", tensors, peft_type="LN_TUNING")
    other = saved(
        tmp_path / "b", {f"{norm}.ln_tuning_layers.weight": trained}, peft_type="LN_TUNING"
    )
    found = read_adapter(read_published(base), one)
    assert found.table == {"kind": "full", "train": ["norm.weight"]}
    assert mx.array_equal(logits(base, one), logits(base, other))


def test_a_soft_prompt_of_peft_contains_the_scale_of_the_embeddings(
    base: Path, tmp_path: Path
) -> None:
    vectors = drawn(3, DIM)
    adapter = saved(
        tmp_path / "a",
        {"prompt_embeddings": vectors},
        peft_type="PROMPT_TUNING",
        num_virtual_tokens=3,
    )
    found = read_published(base)
    embed: Any = found.model.embed  # type: ignore[attr-defined]
    embed.scale = 4.0
    _, opened = open_adapter(found, adapter)
    assert mx.array_equal(opened.weights["embed.prompt.vectors"], vectors / 4)


@pytest.mark.parametrize(("stored", "transposed"), [((1, 5), False), ((5, 1), True)])
def test_a_layer_of_one_output_is_told_from_its_transpose_by_its_shape(
    stored: tuple[int, int], transposed: bool
) -> None:
    layout = Layout(SimpleNamespace(tied=()), {"gate.weight": (1, 5)})  # type: ignore[arg-type]
    via = SimpleNamespace(save=lambda rows: [rows[0].reshape(stored)])
    move = SimpleNamespace(ours=["gate.weight"], theirs=["gate"], via=via)
    assert layout.transposed(move) is transposed  # type: ignore[arg-type]


def test_the_tied_head_of_every_family_is_told_from_embeddings_and_their_copies() -> None:
    others = ("model.embed_tokens", "encoder.embed_tokens", "model.layers.3.mlp.down_proj")
    copies = ("model.layers.4.embed_tokens", "model.layers.4.shared_head.head")
    for family in FAMILIES:
        adapted = {
            module: names_head(family, {f"base_model.model.{module}.lora_A.weight": mx.zeros(1)})
            for module in (*others, *copies, "lm_head", *(second[:-7] for second, _ in family.tied))
        }
        assert adapted["lm_head"], family.name
        assert not any(adapted[module] for module in others), family.name
        if COPIES[0] in family.tied:
            assert not any(adapted[module] for module in copies), family.name
        heads = [s[:-7] for s, _ in family.tied if re.fullmatch(r"[\w.]*head[\w.]*\.weight", s)]
        assert all(adapted[head] for head in heads), family.name


def test_factors_of_single_experts_are_rows_of_their_stack(tmp_path: Path) -> None:
    source = read_published(write(tmp_path / "base", "mixtral"))
    shapes = {name: array.shape for name, array in plain_weights(source.model).items()}
    n_experts, hidden, _ = shapes["stack.blocks.0.ffn.experts.gate.weight"]
    experts = "base_model.model.model.layers.0.block_sparse_moe.experts"
    given = {"w1": 1 + drawn(hidden, 1), "w2": 1 + drawn(1, hidden)}
    adapter = saved(
        tmp_path / "a",
        {f"{experts}.1.{name}.ia3_l": factor for name, factor in given.items()},
        peft_type="IA3",
        feedforward_modules=["w2"],
    )
    found = read_adapter(source, adapter)
    assert found.table["targets"] == ["stack.blocks.0.ffn.experts.gate"]
    assert found.table["inputs"] == ["stack.blocks.0.ffn.experts.down"]
    own = dict(tree_flatten(found.base.model.trainable_parameters()))
    for path, factor in (("gate", given["w1"]), ("down", given["w2"])):
        stack = own[f"stack.blocks.0.ffn.experts.{path}.adapter.factor"]
        rows = [factor.reshape(-1) if e == 1 else mx.ones(hidden) for e in range(n_experts)]
        assert mx.array_equal(stack, mx.stack(rows))


@pytest.mark.parametrize("ranks", [(7, 7), (6, 9)], ids=str)
def test_factors_without_one_rank_for_each_expert_are_refused(
    tmp_path: Path, ranks: tuple[int, int]
) -> None:
    source = read_published(write(tmp_path / "base", "mixtral"))
    experts = "base_model.model.model.layers.0.block_sparse_moe.experts"
    shapes = {"lora_A.weight": (ranks[0], 40), "lora_B.weight": (32, ranks[1])}
    tensors = {f"{experts}.{name}": drawn(*shape) for name, shape in shapes.items()}
    with pytest.raises(ConvertError, match=r"one rank for each of its 3 experts|rank in common"):
        read_adapter(source, saved(tmp_path / "a", tensors))
